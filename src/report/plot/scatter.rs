//! Two numbers against each other, mostly percentages: dots with intervals, those of one method joined.

use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, EmptyElement, IntoDrawingArea, LineSeries, PathElement, SVGBackend,
    Text, WHITE,
};
use plotters::style::text_anchor::{HPos, VPos};

use super::{
    BELOW, CHART_HEIGHT, Colour, DOT, FONT, LEFT, LEGEND, MARGIN, Picture, Plot, Series, Spot, WIDTH, done,
    entry, short, spots, text,
};

/// One number over another.
pub struct Scatter {
    pub title: String,
    /// What the two coordinates are.
    pub labels: [String; 2],
    /// Which of them are percent.
    pub is_share: [bool; 2],
    pub tracks: Vec<Track>,
}

/// Dots that belong together.
pub struct Track {
    pub name: String,
    pub dots: Vec<Dot>,
    pub colour: Colour,
    /// Joined in their order.
    pub is_joined: bool,
}

/// One dot; shares are in percent.
pub struct Dot {
    pub at: [f64; 2],
    /// The ends of the intervals of both coordinates; none where there is none.
    pub intervals: [Option<(f64, f64)>; 2],
    /// What stands beside it.
    pub label: String,
    pub spot: Spot,
}

/// Percent beyond what the dots cover, and above them, where their labels stand; of other numbers so many percent of what
/// they cover.
const AROUND: f64 = 4.0;
const ABOVE: f64 = 9.0;
/// Lines of the legend stand side by side.
const COLUMNS: usize = 2;

impl Scatter {
    /// The picture.
    pub fn svg(&self) -> String {
        let lines = self.tracks.len().div_ceil(COLUMNS) as u32;
        let height = CHART_HEIGHT + 60;
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, height + LEGEND * lines + MARGIN))
                .into_drawing_area();
            done(root.fill(&WHITE));
            let (upper, lower) = root.split_vertically(height);
            let [x, y] = [0, 1].map(|side| self.range(side));
            let mut builder = ChartBuilder::on(&upper);
            builder
                .caption(&self.title, (FONT, 18))
                .margin(MARGIN)
                .x_label_area_size(BELOW)
                .y_label_area_size(LEFT);
            let mut plot = done(builder.build_cartesian_2d(x.0..x.1, y.0..y.1));
            let mut mesh = plot.configure_mesh();
            mesh.x_desc(&self.labels[0])
                .y_desc(&self.labels[1])
                .x_labels(8)
                .y_labels(8)
                .axis_desc_style((FONT, 16))
                .label_style((FONT, 15));
            mesh.bold_line_style(BLACK.mix(0.12)).light_line_style(BLACK.mix(0.0));
            done(mesh.x_label_formatter(&|x| short(*x)).y_label_formatter(&|y| short(*y)).draw());
            self.tracks.iter().for_each(|track| draw(&mut plot, track));
            for (column, area) in lower.split_evenly((1, COLUMNS)).iter().enumerate() {
                let own = self.tracks.iter().skip(column * lines as usize).take(lines as usize);
                for (nth, Track { name, colour, .. }) in own.enumerate() {
                    entry(area, &Series::line(Some(name.clone()), Vec::new(), *colour), nth);
                }
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
        self.tracks.iter().flat_map(|track| &track.dots).map(|dot| &dot.spot)
    }

    /// What the dots and their intervals cover, and a little more.
    fn range(&self, side: usize) -> (f64, f64) {
        let dots = self.tracks.iter().flat_map(|track| &track.dots);
        let ends = dots.flat_map(|dot| {
            let (low, high) = dot.intervals[side].unwrap_or((dot.at[side], dot.at[side]));
            [low, high, dot.at[side]]
        });
        let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
        let percent = if self.is_share[side] { 1.0 } else { ((high - low) / 100.0).max(1e-6) };
        if low > high { (0.0, 100.0) } else { (low - AROUND * percent, high + ABOVE * percent) }
    }
}

fn draw(plot: &mut Plot<'_, '_>, Track { dots, colour, is_joined, .. }: &Track) {
    let faint = colour.rgb().mix(0.3);
    for Dot { at: [x, y], intervals: [wide, high], .. } in dots {
        let whiskers = [wide.map(|(a, b)| [(a, *y), (b, *y)]), high.map(|(a, b)| [(*x, a), (*x, b)])];
        let whiskers = whiskers.into_iter().flatten().map(|ends| PathElement::new(ends, faint));
        done(plot.draw_series(whiskers));
    }
    let line = dots.iter().filter(|_| *is_joined).map(|dot| (dot.at[0], dot.at[1]));
    done(plot.draw_series(LineSeries::new(line, colour.rgb().mix(0.7).stroke_width(1))));
    let rgb = colour.rgb();
    let dots = dots.iter().map(|dot| {
        EmptyElement::at((dot.at[0], dot.at[1]))
            + Circle::new((0, 0), DOT, rgb.filled())
            + Text::new(dot.label.clone(), (6, -6), text(13, HPos::Left, VPos::Bottom).color(&rgb))
    });
    done(plot.draw_series(dots));
}
