//! Percentages side by side: lying bars in groups, each with its interval.

use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, EmptyElement, IntoDrawingArea, PathElement, Rectangle, SVGBackend,
    Text, WHITE,
};
use plotters::style::text_anchor::{HPos, VPos};

use super::{
    BELOW, Colour, FONT, LEGEND, MARGIN, Picture, Plot, Series, Spot, WIDTH, done, entry, short, spots, text,
};

/// Percent, from the left.
pub struct Bars {
    pub title: String,
    /// What the percentages are of.
    pub x: String,
    /// What the colours mean; nothing where the groups say all.
    pub legend: Vec<(String, Colour)>,
    pub groups: Vec<Group>,
}

/// Bars under one name.
pub struct Group {
    pub name: String,
    pub bars: Vec<Bar>,
}

/// One bar.
pub struct Bar {
    pub percent: f64,
    pub interval: Option<(f64, f64)>,
    pub colour: Colour,
    pub spot: Spot,
}

/// Pixels of a bar with the gap below it, and of the gap between groups.
const BAR: u32 = 16;
const GAP: u32 = 9;
/// Of the title.
const HEAD: u32 = 40;
/// A letter of a name, and the most letters that are shown of one.
const LETTER: u32 = 8;
const LETTERS: usize = 34;

impl Bars {
    /// The picture.
    pub fn svg(&self) -> String {
        let rows: u32 = self.groups.iter().map(|group| BAR * group.bars.len() as u32 + GAP).sum();
        let legend = LEGEND * self.legend.len() as u32;
        let height = HEAD + rows + BELOW + MARGIN;
        let mut svg = String::new();
        {
            let root =
                SVGBackend::with_string(&mut svg, (WIDTH, height + legend + MARGIN)).into_drawing_area();
            done(root.fill(&WHITE));
            let (upper, lower) = root.split_vertically(height);
            let names = self.groups.iter().map(|group| shown(&group.name).chars().count()).max().unwrap_or(0);
            let left = LETTER * names as u32 + 2 * MARGIN;
            let (low, high) = self.range();
            let mut builder = ChartBuilder::on(&upper);
            builder.caption(&self.title, (FONT, 18)).margin(MARGIN);
            builder.x_label_area_size(BELOW).y_label_area_size(left);
            let mut plot = done(builder.build_cartesian_2d(low..high, f64::from(rows)..0.0));
            let mut mesh = plot.configure_mesh();
            mesh.disable_y_mesh().y_labels(0).x_labels(6).x_desc(&self.x);
            mesh.axis_desc_style((FONT, 16)).label_style((FONT, 15));
            mesh.bold_line_style(BLACK.mix(0.12)).light_line_style(BLACK.mix(0.0));
            done(mesh.x_label_formatter(&|x| short(*x)).draw());
            self.rows(&mut plot, low);
            for (nth, (name, colour)) in self.legend.iter().enumerate() {
                entry(&lower, &Series::line(Some(name.clone()), Vec::new(), *colour), nth);
            }
            done(root.present());
        }
        spots::told(&svg, self.spots())
    }

    /// The picture and the file that it is kept in.
    pub fn picture(&self, file: String) -> Picture {
        let dots = self.spots().map(|spot| spot.candidate.clone()).collect();
        Picture { file, title: self.title.clone(), svg: self.svg(), dots }
    }

    fn spots(&self) -> impl Iterator<Item = &Spot> {
        self.groups.iter().flat_map(|group| &group.bars).map(|bar| &bar.spot)
    }

    /// From 0 to 100, or as far as the bars reach.
    fn range(&self) -> (f64, f64) {
        let all = self.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.percent);
        let (low, high) = all.fold((0.0f64, 100.0f64), |(low, high), x| (low.min(x), high.max(x)));
        (low, high + 2.0)
    }

    fn rows(&self, plot: &mut Plot<'_, '_>, low: f64) {
        let mut top = f64::from(GAP) / 2.0;
        for Group { name, bars } in &self.groups {
            let height = f64::from(BAR) * bars.len() as f64;
            // Left of the plot, in the middle of its bars.
            let at = (low, top + height / 2.0);
            let name = Text::new(shown(name), (-8, 0), text(15, HPos::Right, VPos::Center));
            done(plot.draw_series([EmptyElement::at(at) + name]));
            for Bar { percent, interval, colour, .. } in bars {
                let (from, to) = (top + 2.0, top + f64::from(BAR) - 2.0);
                let middle = f64::midpoint(from, to);
                let whole = Rectangle::new([(0.0, from), (*percent, to)], colour.rgb().mix(0.45).filled());
                done(plot.draw_series([whole]));
                let ends = interval.map(|(low, high)| {
                    PathElement::new([(low, middle), (high, middle)], colour.rgb().stroke_width(1))
                });
                done(plot.draw_series(ends));
                done(plot.draw_series([Circle::new((*percent, middle), 3, colour.rgb().filled())]));
                top += f64::from(BAR);
            }
            top += f64::from(GAP);
        }
    }
}

/// A name as long as there is room for.
fn shown(name: &str) -> String {
    match name.chars().count() > LETTERS {
        true => name.chars().take(LETTERS - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_its_length_its_interval_and_its_dot() {
        let bar = |percent: f64, interval| Bar {
            percent,
            interval,
            colour: Colour::DANGER,
            spot: Spot { candidate: "tuned".to_owned(), said: format!("tuned\n{percent}") },
        };
        let group = |name: &str, bars| Group { name: name.to_owned(), bars };
        let groups = vec![
            group("<chemical>", vec![bar(50.0, Some((30.0, 70.0))), bar(0.0, None)]),
            group(&"x".repeat(99), vec![bar(104.0, None)]),
        ];
        let bars = Bars { title: "T".to_owned(), x: "%".to_owned(), legend: Vec::new(), groups };
        let picture = bars.picture("f.svg".to_owned());
        assert_eq!(picture.dots, ["tuned"; 3]);
        assert_eq!(picture.svg.matches("<title>").count(), 3);
        assert!(picture.svg.contains("&lt;chemical&gt;") && !picture.svg.contains("<chemical>"));
        assert!(picture.svg.contains(&format!("{}…", "x".repeat(33))));
        assert_eq!(bars.range(), (0.0, 106.0));
    }
}
