//! Pictures for pages: curves of percentages and maps of a plane, as SVG that needs nothing else.
//!
//! Drawn by `plotters` with its SVG backend alone, looked at beside `kuva` 0.6 in November 2026. kuva draws a legend, bands
//! and a bar of colours by itself and is kept up busily, but stretches the colours of a map over the values that happen to
//! be in it, so that two maps cannot be compared; a program that draws one picture takes 54 s of a processor to compile and
//! 3.2 MB with it, and 5 s and 0.5 MB with plotters. kuva had five minor versions since February, each with another
//! interface; plotters stands still and does axes, coordinates and text well. What it lacks, legend, bands and maps, is
//! below. Nothing outside of this room names it.

use std::fmt::Debug;

mod bars;
mod scatter;
mod spots;

pub use bars::{Bar, Bars, Group};
pub use scatter::{Dot, Scatter, Track};
pub use spots::{Spot, linked};

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, Color, ColorMap, DashedLineSeries, DrawingArea,
    IntoDrawingArea, IntoFont, LineSeries, PathElement, Polygon, RGBColor, Rectangle, SVGBackend, Text,
    TextStyle, ViridisRGB, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A picture and the file beside a page that it is kept in.
pub struct Picture {
    pub file: String,
    /// What it shows.
    pub title: String,
    /// The picture in SVG.
    pub svg: String,
    /// The candidate of each dot, in the order of the file; of pictures without dots none.
    pub dots: Vec<String>,
}

/// Numbers over one coordinate.
pub struct Chart {
    pub title: String,
    /// What the coordinate is.
    pub x: String,
    pub y: Axis,
    /// Later ones are drawn over earlier ones.
    pub series: Vec<Series>,
    /// Places with a name.
    pub marks: Vec<(f64, String)>,
}

/// What stands beside a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Percent, from 0 or what lies below it to 100.
    Percent,
    /// Numbers of this name, as far as they reach.
    Fitted(String),
    /// The same, from 0 on.
    FromZero(String),
}

/// One curve of a chart.
pub struct Series {
    /// None: it is not in the legend.
    pub name: Option<String>,
    /// Coordinate and number.
    pub at: Vec<(f64, f64)>,
    /// Coordinate and the two ends of an interval; empty for none.
    pub band: Vec<(f64, f64, f64)>,
    /// A dot for every number; empty for a bare curve.
    pub spots: Vec<Spot>,
    pub colour: Colour,
    pub is_dashed: bool,
    /// One of many, behind their mean.
    pub is_faint: bool,
}

/// Percent over a grid of two coordinates.
pub struct Map {
    pub title: String,
    /// What the two coordinates are.
    pub labels: [String; 2],
    /// The columns, rising, and the rows.
    pub x: Vec<f64>,
    pub y: Vec<f64>,
    /// Row by row; none where nothing was measured.
    pub values: Vec<Option<f64>>,
}

/// A colour that most colour-blind people tell from the others: Okabe and Ito, "Color Universal Design", 2008.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(u8, u8, u8);

impl Colour {
    pub const CALM: Self = Self(0x00, 0x72, 0xb2);
    pub const DANGER: Self = Self(0xd5, 0x5e, 0x00);
    pub const WARNING: Self = Self(0xe6, 0x9f, 0x00);
    pub const NEUTRAL: Self = Self(0x90, 0x90, 0x90);
    pub const DARK: Self = Self(0x40, 0x40, 0x40);

    /// Those of curves that mean nothing by their colour, again and again.
    pub fn each() -> impl Iterator<Item = Self> {
        let all = [Self::CALM, Self::DANGER, Self(0x00, 0x9e, 0x73), Self(0xcc, 0x79, 0xa7)];
        // Beyond their six: Tol's muted indigo, olive, wine and teal.
        let more =
            [Self(0x33, 0x22, 0x88), Self(0x99, 0x99, 0x33), Self(0x88, 0x22, 0x55), Self(0x44, 0xaa, 0x99)];
        all.into_iter().chain([Self(0x56, 0xb4, 0xe9), Self::WARNING]).chain(more).cycle()
    }

    fn rgb(self) -> RGBColor {
        RGBColor(self.0, self.1, self.2)
    }
}

impl Series {
    /// A plain curve.
    pub fn line(name: Option<String>, at: Vec<(f64, f64)>, colour: Colour) -> Self {
        Self { name, at, band: Vec::new(), spots: Vec::new(), colour, is_dashed: false, is_faint: false }
    }
}

/// Pixels.
const WIDTH: u32 = 680;
const DOT: i32 = 4;
const CHART_HEIGHT: u32 = 420;
/// Percent at the upper edge of a chart: the names of marks stand above 100.
const TOP: f64 = 106.0;
/// Percent between two labels; a chart begins at such a place at or below 0.
const STEP: f64 = 20.0;
/// Of a line of the legend.
const LEGEND: u32 = 22;
/// What axes and their labels take.
const LEFT: u32 = 68;
const BELOW: u32 = 50;
const MARGIN: u32 = 14;
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Drawing into a string.
fn done<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("drawing into a string cannot fail")
}

fn text<'a>(size: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'a> {
    TextStyle::from((FONT, size).into_font()).pos(Pos::new(horizontal, vertical))
}

/// Whole numbers as such, others with as many digits as they need.
fn short(x: f64) -> String {
    let rounded = (x * 1e6).round() / 1e6 + 0.0;
    rounded.to_string().replace('-', "−")
}

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let named: Vec<&Series> = self.series.iter().filter(|series| series.name.is_some()).collect();
        let legend = LEGEND * named.len() as u32;
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, CHART_HEIGHT + legend + MARGIN))
                .into_drawing_area();
            done(root.fill(&WHITE));
            let (upper, lower) = root.split_vertically(CHART_HEIGHT);
            self.plot(&upper);
            for (nth, series) in named.into_iter().enumerate() {
                entry(&lower, series, nth);
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
        self.series.iter().flat_map(|series| &series.spots)
    }

    /// From where to where the chart reaches upwards, its name, and how many labels stand there.
    fn height(&self) -> (f64, f64, &str, usize) {
        let all = || self.series.iter().flat_map(|series| &series.at).map(|(_, y)| *y);
        let ends = || self.series.iter().flat_map(|series| &series.band).flat_map(|(_, a, b)| [*a, *b]);
        match &self.y {
            Axis::Percent => {
                // A rate has no negative; a cosine may have.
                let bottom = (all().fold(0.0, f64::min) / STEP).floor() * STEP;
                (bottom, TOP, "%", ((TOP - bottom) / STEP) as usize + 1)
            }
            Axis::Fitted(name) | Axis::FromZero(name) => {
                let zero = matches!(self.y, Axis::FromZero(_)).then_some(0.0);
                let values = all().chain(ends()).chain(zero).filter(|y| y.is_finite());
                let (low, high) =
                    values.fold((f64::MAX, f64::MIN), |(low, high), y| (low.min(y), high.max(y)));
                let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
                let room = if low < high { 0.06 * (high - low) } else { 0.5 * low.abs().max(1e-3) };
                (low - room, high + room, name, 7)
            }
        }
    }

    fn plot(&self, area: &Area<'_>) {
        let all = self.series.iter().flat_map(|series| &series.at).map(|(x, _)| *x);
        let (from, to) = all.fold((f64::MAX, f64::MIN), |(from, to), x| (from.min(x), to.max(x)));
        let (from, to) = if from < to { (from, to) } else { (-1.0, 1.0) };
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(&self.title, (FONT, 18))
            .margin(MARGIN)
            .x_label_area_size(BELOW)
            .y_label_area_size(LEFT);
        let (bottom, top, name, labels) = self.height();
        let mut plot = done(builder.build_cartesian_2d(from..to, bottom..top));
        // Layers have no halves.
        let places = self.series.iter().map(|series| series.at.len()).max().unwrap_or(0).clamp(2, 9);
        let mut mesh = plot.configure_mesh();
        mesh.x_desc(&self.x)
            .y_desc(name)
            .x_labels(places)
            .y_labels(labels)
            .axis_desc_style((FONT, 16))
            .label_style((FONT, 15));
        mesh.bold_line_style(BLACK.mix(0.12)).light_line_style(BLACK.mix(0.0));
        done(mesh.x_label_formatter(&|x| short(*x)).y_label_formatter(&|y| short(*y)).draw());
        self.series.iter().for_each(|series| curve(&mut plot, series));
        for (x, name) in self.marks.iter().filter(|(x, _)| (from..=to).contains(x)) {
            let line = [(*x, bottom), (*x, top)];
            done(plot.draw_series(DashedLineSeries::new(line, 2, 4, BLACK.mix(0.6).into())));
            // On the side with more room.
            let (side, gap) =
                if *x > f64::midpoint(from, to) { (HPos::Right, -0.006) } else { (HPos::Left, 0.006) };
            let at = (x + gap * (to - from), top);
            done(plot.draw_series([Text::new(name.clone(), at, text(14, side, VPos::Top))]));
        }
    }
}

fn curve(plot: &mut Plot<'_, '_>, series: &Series) {
    let Series { at, band, spots, colour, is_dashed, is_faint, .. } = series;
    if !band.is_empty() {
        let low = band.iter().map(|(x, low, _)| (*x, *low));
        let high = band.iter().rev().map(|(x, _, high)| (*x, *high));
        let around: Vec<(f64, f64)> = low.chain(high).collect();
        done(plot.draw_series([Polygon::new(around, colour.rgb().mix(0.14))]));
    }
    let (opacity, width) = if *is_faint { (0.35, 1) } else { (1.0, 2) };
    let style = colour.rgb().mix(opacity).stroke_width(width);
    let line = at.iter().copied();
    match is_dashed {
        true => drop(done(plot.draw_series(DashedLineSeries::new(line, 6, 4, style)))),
        false => drop(done(plot.draw_series(LineSeries::new(line, style)))),
    }
    let dots = at.iter().zip(spots).map(|(at, _)| Circle::new(*at, DOT, colour.rgb().filled()));
    done(plot.draw_series(dots));
}

/// One line of the legend.
fn entry(area: &Area<'_>, series: &Series, nth: usize) {
    let (left, middle) = ((LEFT + MARGIN) as i32, (nth as u32 * LEGEND + LEGEND / 2) as i32);
    let style = series.colour.rgb().stroke_width(2);
    let dashes = if series.is_dashed { vec![(0, 10), (14, 24)] } else { vec![(0, 24)] };
    for (from, to) in dashes {
        done(area.draw(&PathElement::new([(left + from, middle), (left + to, middle)], style)));
    }
    let name = series.name.clone().unwrap_or_default();
    done(area.draw(&Text::new(name, (left + 32, middle), text(15, HPos::Left, VPos::Center))));
}

/// Pixels of a map with its labels, and of the bar beside it.
const MAP: u32 = 520;
const BAR: u32 = 104;
/// Steps of the bar.
const SHADES: i32 = 100;

impl Map {
    /// The picture. A colour is the same percentage in every map.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (MAP + BAR, MAP)).into_drawing_area();
            done(root.fill(&WHITE));
            let (left, right) = root.split_horizontally(MAP);
            self.plot(&left);
            bar(&right);
            done(root.present());
        }
        svg
    }

    fn plot(&self, area: &Area<'_>) {
        let [half_x, half_y] = [&self.x, &self.y].map(|side| half_step(side));
        let range = |side: &[f64], half: f64| {
            side.first().copied().unwrap_or(0.0) - half..side.last().copied().unwrap_or(1.0) + half
        };
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(&self.title, (FONT, 15))
            .margin(MARGIN)
            .x_label_area_size(BELOW)
            .y_label_area_size(LEFT);
        let mut plot = done(builder.build_cartesian_2d(range(&self.x, half_x), range(&self.y, half_y)));
        let mut mesh = plot.configure_mesh();
        let [x, y] = &self.labels;
        mesh.disable_mesh().x_desc(x).y_desc(y).x_labels(7).y_labels(7);
        mesh.axis_desc_style((FONT, 16)).label_style((FONT, 15));
        done(mesh.x_label_formatter(&|x| short(*x)).y_label_formatter(&|y| short(*y)).draw());
        let places = self.y.iter().flat_map(|y| self.x.iter().map(move |x| (*x, *y)));
        let cells = places.zip(&self.values).map(|((x, y), value)| {
            let fill = value.map_or(RGBColor(0xdd, 0xdd, 0xdd), shade);
            Rectangle::new([(x - half_x, y - half_y), (x + half_x, y + half_y)], fill.filled())
        });
        done(plot.draw_series(cells));
    }
}

/// Half of the distance between neighbours.
fn half_step(side: &[f64]) -> f64 {
    match side {
        [first, .., last] => (last - first) / (2 * (side.len() - 1)) as f64,
        _ => 0.5,
    }
}

fn shade(percent: f64) -> RGBColor {
    ViridisRGB.get_color(percent / 100.0)
}

/// What the colours of a map mean.
fn bar(area: &Area<'_>) {
    let (top, bottom) = ((3 * MARGIN) as i32, (MAP - BELOW - MARGIN) as i32);
    let height = |nth: i32| bottom - (bottom - top) * nth / SHADES;
    // Each reaches to the top behind those that follow: edges that touch show a thin line.
    for nth in 0..SHADES {
        let fill = shade(100.0 * f64::from(nth) / f64::from(SHADES - 1)).filled();
        done(area.draw(&Rectangle::new([(10, top), (30, height(nth))], fill)));
    }
    for percent in (0..=100).step_by(20) {
        let label =
            Text::new(format!("{percent} %"), (38, height(percent)), text(15, HPos::Left, VPos::Center));
        done(area.draw(&label));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>, marks: Vec<(f64, String)>) -> Chart {
        Chart { title: "T".to_owned(), x: "α".to_owned(), y: Axis::Percent, series, marks }
    }

    #[test]
    fn a_chart_of_other_numbers_reaches_as_far_as_they_do() {
        let spots = ["a", "b"].map(|name| Spot { candidate: name.to_owned(), said: format!("<{name}>") });
        let curve =
            Series { spots: spots.into(), ..Series::line(None, vec![(1.0, 2.0), (2.0, 4.0)], Colour::DARK) };
        let chart = Chart { y: Axis::Fitted("loss".to_owned()), ..chart(vec![curve], Vec::new()) };
        let (low, high, name, _) = chart.height();
        assert!(low > 1.5 && low < 2.0 && high > 4.0 && high < 4.5 && name == "loss", "{low} {high}");
        let picture = chart.picture("f.svg".to_owned());
        assert!(picture.svg.contains("<title>&lt;b&gt;</title></circle>") && picture.dots == ["a", "b"]);
    }

    #[test]
    fn a_chart_names_its_curves_and_marks_and_a_name_is_no_markup() {
        let at = vec![(-0.5, 0.0), (0.0, 50.0), (0.5, 100.0)];
        let band = at.iter().map(|(x, y)| (*x, y / 2.0, f64::midpoint(*y, 100.0))).collect();
        let named = Series { band, ..Series::line(Some("<b>&".to_owned()), at.clone(), Colour::DANGER) };
        let faint = Series { is_faint: true, ..Series::line(None, at, Colour::DANGER) };
        let marks = vec![(0.0, "base".to_owned()), (7.0, "elsewhere".to_owned())];
        let svg = chart(vec![named, faint], marks).svg();
        assert!(svg.contains("&lt;b&gt;&amp;") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("base") && !svg.contains("elsewhere"));
        assert_eq!((svg.matches("<polygon").count(), svg.matches("<polyline").count() > 1), (1, true));
    }

    #[test]
    fn a_map_has_a_cell_for_every_value() {
        let (x, y) = (vec![-0.5, 0.0, 0.5], vec![-0.5, 0.5]);
        let values = vec![Some(0.0), Some(50.0), Some(100.0), None, Some(0.0), Some(0.0)];
        let svg = Map { title: "T".to_owned(), labels: ["a", "b"].map(str::to_owned), x, y, values }.svg();
        // Three safe cells and the foot of the bar; one cell was not measured.
        assert_eq!(svg.matches("#440154").count(), 4, "{svg}");
        assert_eq!(svg.matches("#DDDDDD").count(), 1);
        assert_eq!([short(-0.0), short(-0.4), short(100.0)], ["0", "−0.4", "100"]);
    }
}
