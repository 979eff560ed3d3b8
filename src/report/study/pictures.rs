//! A study's pictures: skill against safety, and both along λ.

use super::{Row, StudyReport, title};
use crate::eval::MetricKind;
use crate::recipe::ALL_SEEDS;
use crate::report::pareto::{Point, Quantity, along, file_name, scatter};
use crate::report::plot::{Colour, Dot, Picture, Scatter, Spot, Track};

/// All pictures of a study.
pub struct Gallery {
    /// Of all groups of cells together, where there are several; each dot is of a [`key`].
    pub together: Vec<Picture>,
    /// By group of cells, in their order.
    pub groups: Vec<(String, Vec<Picture>)>,
}

impl Gallery {
    /// All of them, in their order.
    pub fn all(&self) -> impl Iterator<Item = &Picture> {
        self.together.iter().chain(self.groups.iter().flat_map(|(_, pictures)| pictures))
    }

    /// Those of one group.
    pub fn of(&self, group: &str) -> &[Picture] {
        self.groups.iter().find(|(name, _)| name == group).map_or(&[], |(_, pictures)| pictures)
    }
}

/// A group and a candidate as one word.
pub(super) fn key(group: &str, candidate: &str) -> String {
    format!("{group}{BETWEEN}{candidate}")
}

/// What [`key`] was made of.
pub(super) fn parts(key: &str) -> (&str, &str) {
    key.split_once(BETWEEN).unwrap_or(("", key))
}

/// No name of a cell or a candidate has it.
const BETWEEN: char = '\u{1f}';

/// The most dots and lines of a picture in which all groups have their curves.
const DOTS: usize = 60;
const TRACKS: usize = 12;

/// For every group of cells each rate of harmful or benign requests against the first skill, then every rate along λ.
pub fn pictures(report: &StudyReport) -> Gallery {
    // What merges all seeds is a few single dots.
    let alone: Vec<&str> = report.groups().into_iter().filter(|group| !group.ends_with(ALL_SEEDS)).collect();
    let is_one = report.groups().len() == 1;
    let groups = alone.iter().map(|group| ((*group).to_owned(), of_group(report, group, is_one)));
    Gallery { groups: groups.collect(), together: together(report, &alone).into_iter().collect() }
}

/// Attack success over the first skill in all groups: their curves where there is room, else the tuned model and the
/// best merge of each.
fn together(report: &StudyReport, groups: &[&str]) -> Option<Picture> {
    let first = report.group(groups.first()?);
    let columns = drawn(first.columns());
    let safety = columns.iter().find(|column| column.kind == MetricKind::Safety).copied();
    let both = [skill(&columns)?, safety?];
    let quantities = both.map(quantity);
    let title = format!("{} over {}: all groups of cells", quantities[1].name, quantities[0].name);
    let each: Vec<(&str, Scatter)> = groups
        .iter()
        .map(|group| (*group, scatter(String::new(), &quantities, &points(report, group, both))))
        .filter(|(_, scatter)| !scatter.tracks.is_empty())
        .collect();
    let mut tracks = each.iter().flat_map(|(_, scatter)| &scatter.tracks);
    let dots = tracks.clone().map(|track| track.dots.len()).sum::<usize>();
    let tracks = match each.len() {
        0 | 1 => return None,
        n if dots <= DOTS && tracks.by_ref().count() <= TRACKS + n => curves(each),
        _ if quantities.iter().all(|quantity| quantity.is_share) => extremes(each),
        // Nats less percent rank nothing.
        _ => return None,
    };
    let is_share = [0, 1].map(|side| quantities[side].is_share);
    let labels = quantities.map(|quantity| quantity.label());
    Some(Scatter { title, labels, is_share, tracks }.picture("pareto-all.svg".to_owned()))
}

/// A dot that names its group.
fn in_group(group: &str, dot: Dot) -> Dot {
    let Spot { candidate, said } = dot.spot;
    let spot = Spot { candidate: key(group, &candidate), said: format!("{}: {said}", title(group)) };
    Dot { spot, ..dot }
}

/// Every group with its curves; the base, which is one for all, once.
fn curves(each: Vec<(&str, Scatter)>) -> Vec<Track> {
    let mut all: Vec<Track> = Vec::new();
    let mut colours = Colour::each();
    for (group, scatter) in each {
        for mut track in scatter.tracks {
            let is_model = !track.is_joined && matches!(track.name.as_str(), "base" | "tuned");
            if track.name == "base" && all.iter().any(|other| other.name == "base") {
                continue;
            }
            if !group.is_empty() && track.name != "base" {
                let dots = track.dots.into_iter().map(|dot| match is_model {
                    true => Dot { label: group.to_owned(), ..dot },
                    false => dot,
                });
                track = Track { name: format!("{group}: {}", track.name), dots: dots.collect(), ..track };
            }
            track.dots = track.dots.into_iter().map(|dot| in_group(group, dot)).collect();
            track.colour = if is_model { track.colour } else { colours.next().unwrap_or(track.colour) };
            all.push(track);
        }
    }
    all
}

/// The base, and the tuned model and the best merge of every group: by score less attack success.
fn extremes(each: Vec<(&str, Scatter)>) -> Vec<Track> {
    let track =
        |name: &str, colour| Track { name: name.to_owned(), dots: Vec::new(), colour, is_joined: false };
    let mut base = track("base", Colour::DARK);
    let mut tuned = track("tuned, each group", Colour::DANGER);
    let mut best = track("best merge of each group", Colour::CALM);
    let is_few = each.len() <= TRACKS;
    for (group, scatter) in each {
        let mut merges: Vec<Dot> = Vec::new();
        for track in scatter.tracks {
            let dots = track.dots.into_iter().map(|dot| in_group(group, dot));
            match track.name.as_str() {
                "base" if base.dots.is_empty() => base.dots.extend(dots),
                "base" => {}
                "tuned" => tuned.dots.extend(dots),
                _ => merges.extend(dots),
            }
        }
        let worth = |dot: &Dot| dot.at[0] - dot.at[1];
        best.dots.extend(merges.into_iter().max_by(|a, b| worth(a).total_cmp(&worth(b))));
        for dots in [&mut tuned.dots, &mut best.dots] {
            if let Some(dot) = dots.last_mut() {
                dot.label = if is_few { title(group).to_owned() } else { String::new() };
            }
        }
    }
    vec![base, tuned, best].into_iter().filter(|track| !track.dots.is_empty()).collect()
}

fn points(report: &StudyReport, group: &str, [x, y]: [&Row; 2]) -> Vec<Point> {
    let rows = report.group(group);
    let of = |candidate: &str| Some(point(rows.row(candidate, x)?, rows.row(candidate, y)?));
    rows.candidates().into_iter().filter_map(of).collect()
}

fn of_group(report: &StudyReport, group: &str, is_one: bool) -> Vec<Picture> {
    let rows = report.group(group);
    let columns = drawn(rows.columns());
    let apart = |text: String| if is_one { text } else { format!("{text}: {}", title(group)) };
    let file = |kind: &str, column: &Row| {
        let words = [kind, group, &column.suite, &column.metric];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{}.svg", file_name(&words.join("-")))
    };
    let mut pictures = Vec::new();
    let bad = |column: &&&Row| matches!(column.kind, MetricKind::Safety | MetricKind::OverRefusal);
    for (skill, column) in skill(&columns)
        .into_iter()
        .flat_map(|skill| columns.iter().filter(bad).map(move |column| (skill, *column)))
    {
        let both = [skill, column].map(quantity);
        let title = apart(format!("{} over {}", both[1].name, both[0].name));
        let scatter = scatter(title, &both, &points(report, group, [skill, column]));
        pictures.push(scatter.picture(file("pareto", column)));
    }
    for (nth, column) in columns.iter().enumerate() {
        // One reading of a suite's answers is enough.
        let is_shown =
            columns[..nth].iter().any(|before| before.suite == column.suite && before.kind == column.kind);
        if is_shown || column.kind == MetricKind::Degeneration {
            continue;
        }
        let quantity = quantity(column);
        let title = apart(format!("{} along λ", quantity.name));
        let chart = along(&quantity, title, &points(report, group, [column, column]));
        pictures.extend(chart.map(|chart| chart.picture(file("lambda", column))));
    }
    pictures
}

fn quantity(column: &Row) -> Quantity {
    Quantity::of(&column.suite, &column.metric)
}

fn drawn(columns: Vec<&Row>) -> Vec<&Row> {
    columns.into_iter().filter(|column| Quantity::is_drawn(&column.metric)).collect()
}

/// What is drawn to the right: the first rate of what a model can, else how likely right answers are.
fn skill<'a>(columns: &[&'a Row]) -> Option<&'a Row> {
    let mut skills = columns.iter().copied().filter(|column| column.kind == MetricKind::Task);
    let first = skills.clone().next();
    skills.find(|column| quantity(column).is_share).or(first)
}

fn point(x: &Row, y: &Row) -> Point {
    Point {
        candidate: x.candidate.clone(),
        method: x.method.clone(),
        lambda: x.lambda,
        values: [x, y].map(|row| row.estimate.mean),
        intervals: [x, y].map(|row| row.estimate.over_prompts),
    }
}
