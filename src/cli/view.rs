//! What a run or a study is at, drawn from its events: one calm view, for a terminal and for `finetune watch`.

use std::fmt::Write;

use crate::event::{Event, Remaining, StepEvent};
use crate::run::preview::duration;

/// The columns of a curve of losses.
const CURVE: usize = 24;
/// The columns of a bar.
const BAR: usize = 24;
/// Finished candidates that are named; of more, the last.
const NAMED: usize = 6;
/// The heights of a curve.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is known from the events so far. Times are seconds on any one clock.
#[derive(Debug, Default)]
pub struct View {
    cells: Option<Cells>,
    /// Stages of the run that are over.
    done: Vec<String>,
    stage: Option<Stage>,
    losses: Vec<f64>,
    validation: Option<f64>,
    /// The most bytes that the process has held.
    pub memory: Option<u64>,
    /// Whether the run came to its end.
    pub is_over: bool,
}

/// Where a study is.
#[derive(Debug)]
struct Cells {
    /// Done when the sitting began, and all there are.
    done: usize,
    all: usize,
    /// The cell that runs, its place among those that were missing, and when it began.
    now: Option<(String, usize, usize, f64)>,
    /// When the first of the sitting began.
    began: Option<f64>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    total: u64,
    done: u64,
    began: f64,
    /// Seconds left of it, as far as is known.
    left_s: Option<f64>,
    /// And of all like it that follow.
    all_left_s: Option<f64>,
    /// Steps before this sitting's first.
    first_step: Option<usize>,
    step: Option<StepEvent>,
    /// What is done while the stage stands still.
    aside: Option<String>,
}

impl View {
    /// Takes in one event that happened `at` that time.
    pub fn hear(&mut self, event: &Event, at: f64) {
        if let Some(stage) = &mut self.stage {
            stage.aside = None;
        }
        match event {
            Event::Stage { name, total, .. } => self.begin(name, *total, at),
            Event::Progress { done, remaining } => self.progress(*done, *remaining, at),
            Event::Step(step) => self.step(step),
            Event::StageDone { name, .. } | Event::Reused { name, .. } => {
                self.stage = None;
                self.done.retain(|other| other != short(name));
                self.done.push(short(name).to_owned());
            }
            Event::Validation { loss, .. } => self.validation = Some(*loss),
            Event::Validating { done, total } => self.aside("validation", *done, *total),
            Event::Reference { done, total } => self.aside("log-probabilities of the base", *done, *total),
            Event::Scores { done, total } => {
                self.aside("the reward model's scores of the pairs", *done, *total);
            }
            Event::Cells { done, all } => {
                self.cells = Some(Cells { done: *done, all: *all, now: None, began: None });
            }
            Event::Cell { name, nth, of } => {
                let cells = self.cells.take();
                *self = Self { cells, ..Self::default() };
                if let Some(cells) = &mut self.cells {
                    cells.now = Some((name.clone(), *nth, *of, at));
                    cells.began.get_or_insert(at);
                }
            }
            Event::RunDone => self.is_over = true,
            Event::Checkpoint { .. } | Event::Resumed { .. } | Event::Note { .. } => {}
        }
    }

    fn begin(&mut self, name: &str, total: u64, at: f64) {
        if name == "train" {
            self.losses.clear();
        }
        self.is_over = false;
        self.stage = Some(Stage {
            name: name.to_owned(),
            total,
            done: 0,
            began: at,
            left_s: None,
            all_left_s: None,
            first_step: None,
            step: None,
            aside: None,
        });
    }

    fn progress(&mut self, done: u64, remaining: Option<Remaining>, at: f64) {
        let Some(stage) = &mut self.stage else { return };
        stage.done = done;
        match remaining {
            Some(Remaining { stage_s, run_s }) => {
                (stage.left_s, stage.all_left_s) = (Some(stage_s), Some(run_s));
            }
            None if done > 0 && stage.total > done => {
                stage.left_s = Some((at - stage.began) / done as f64 * (stage.total - done) as f64);
            }
            None => {}
        }
    }

    fn step(&mut self, step: &StepEvent) {
        self.losses.push(step.loss);
        let Some(stage) = &mut self.stage else { return };
        let first = *stage.first_step.get_or_insert(step.step - 1);
        stage.done = step.step as u64;
        let per_step = step.elapsed_s / (step.step - first) as f64;
        stage.left_s = Some(per_step * step.last_step.saturating_sub(step.step) as f64);
        stage.step = Some(step.clone());
    }

    fn aside(&mut self, what: &str, done: usize, total: usize) {
        if let Some(stage) = &mut self.stage {
            stage.aside = Some(format!("{what}, {done} of {total} batches"));
        }
    }

    /// The view as lines of at most `width` columns, `at` that time.
    pub fn lines(&self, at: f64, width: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.cells.iter().map(|cells| cells.line(at)).collect();
        if let Some(stage) = &self.stage {
            lines.extend(stage.lines());
            if let Some(step) = &stage.step {
                lines.push(self.losses(step, stage));
            }
        }
        if let Some(done) = self.done_line() {
            lines.push(done);
        }
        lines.extend(self.memory.map(|bytes| format!("memory     {:.1} GB at most", bytes as f64 / 1e9)));
        for line in &mut lines {
            if line.chars().count() > width {
                *line = line.chars().take(width.saturating_sub(1)).chain(['…']).collect();
            }
        }
        lines
    }

    fn losses(&self, step: &StepEvent, stage: &Stage) -> String {
        let made = (step.step - stage.first_step.unwrap_or(0)).max(1) as f64;
        let rate = step.tokens as f64 * made / step.elapsed_s.max(1e-9);
        let validation = self.validation.map(|loss| format!(", validation {loss:.3}")).unwrap_or_default();
        let margin = step.pairs.as_ref().map(|pairs| format!(", reward margin {:.3}", pairs.reward_margin));
        format!(
            "loss       {:.3} {}{validation}{}, {rate:.0} tokens/s, {:.0} % padding",
            step.loss,
            curve(&self.losses, CURVE),
            margin.unwrap_or_default(),
            100.0 * step.padding
        )
    }

    /// What is over, and how much is to come.
    fn done_line(&self) -> Option<String> {
        let to_come = self.stage.as_ref().and_then(|stage| {
            let (_, place) = stage.name.rsplit_once(" (")?;
            let (nth, n) = place.trim_end_matches(')').split_once(" of ")?;
            n.parse::<usize>().ok()?.checked_sub(nth.parse().ok()?)
        });
        let to_come = to_come.filter(|n| *n > 0).map(|n| match n {
            1 => "; 1 candidate to come".to_owned(),
            n => format!("; {n} candidates to come"),
        });
        if self.done.is_empty() && to_come.is_none() {
            return None;
        }
        let hidden = self.done.len().saturating_sub(NAMED);
        let more = if hidden > 0 { format!("{hidden} more, ") } else { String::new() };
        let named =
            if self.done.is_empty() { "nothing yet".to_owned() } else { self.done[hidden..].join(", ") };
        Some(format!("done       {more}{named}{}", to_come.unwrap_or_default()))
    }
}

impl Cells {
    fn line(&self, at: f64) -> String {
        let Self { done, all, now, began } = self;
        let Some((name, nth, of, since)) = now else {
            return format!("study      {done} of {all} cells done");
        };
        let made = nth - 1;
        // By what the cells of this sitting took so far.
        let left = began.filter(|_| made > 0).map(|began| {
            let each = (since - began) / made as f64;
            (each * (of - made) as f64 - (at - since)).max(0.0)
        });
        let left = left.map(|left| format!("; {} left of all", duration(left))).unwrap_or_default();
        format!("study      {name}; {} of {all} cells done, {} to come{left}", done + made, of - nth)
    }
}

impl Stage {
    fn lines(&self) -> Vec<String> {
        let Self { name, total, done, left_s, all_left_s, aside, .. } = self;
        let mut text = format!("{:<10} {}", short(name), bar(*done, *total));
        if *total > 0 {
            let _ = write!(text, " {done} of {total}");
        }
        if let Some(left) = left_s.filter(|_| done < total) {
            let _ = write!(text, ", {} left", duration(left));
        }
        if let (Some(all), Some(left)) = (all_left_s, left_s)
            && *all > left + 1.0
        {
            let _ = write!(text, ", {} of all candidates", duration(*all));
        }
        let aside = aside.as_ref().map(|aside| format!("           {aside}"));
        [text].into_iter().chain(aside).collect()
    }
}

/// A stage's name without its place: `evaluate slerp:0.5 (3 of 6)` is `slerp:0.5`.
fn short(name: &str) -> &str {
    let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
    name.strip_prefix("evaluate ").unwrap_or(name)
}

fn bar(done: u64, total: u64) -> String {
    let full = if total == 0 { 0 } else { (done.min(total) as usize * BAR) / total as usize };
    format!("{}{}", "━".repeat(full), "─".repeat(BAR - full))
}

/// Numbers as a curve of at most `width` columns, each the mean of its share.
pub fn curve(numbers: &[f64], width: usize) -> String {
    let n = numbers.len().min(width);
    let share = |column: usize| &numbers[column * numbers.len() / n..(column + 1) * numbers.len() / n];
    let means: Vec<f64> =
        (0..n).map(|column| share(column).iter().sum::<f64>() / share(column).len() as f64).collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
    let level = |x: &f64| match high > low {
        true => LEVELS[((x - low) / (high - low) * (LEVELS.len() - 1) as f64).round() as usize],
        false => LEVELS[0],
    };
    means.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize, loss: f64) -> Event {
        Event::Step(StepEvent {
            step,
            last_step: 40,
            epoch: 0.0,
            loss,
            gradient_norm: 1.0,
            learning_rate: 1.0,
            trained_tokens: 1,
            tokens: 100,
            padding: 0.25,
            elapsed_s: step as f64 * 2.0,
            pairs: None,
            penalty: None,
        })
    }

    fn stage(name: &str, total: u64) -> Event {
        Event::Stage { name: name.to_owned(), total, reused: None }
    }

    #[test]
    fn a_curve_falls_as_its_numbers_do() {
        assert_eq!(curve(&[4.0, 3.0, 2.0, 1.0], 4), "█▆▃▁");
        assert_eq!(curve(&[1.0, 3.0, 1.0, 3.0], 2), "▁▁");
        assert_eq!((curve(&[], 4).as_str(), curve(&[2.0], 4).as_str()), ("", "▁"));
        assert_eq!(curve(&(0..1000).map(f64::from).collect::<Vec<_>>(), 24).chars().count(), 24);
    }

    #[test]
    fn a_training_shows_its_curve_its_speed_and_what_is_left() {
        let mut view = View::default();
        view.hear(&stage("train", 40), 0.0);
        for (nth, loss) in [(1, 4.0), (2, 3.0), (3, 2.0), (10, 1.0)] {
            view.hear(&step(nth, loss), 0.0);
        }
        view.hear(&Event::Validation { step: 10, loss: 1.5, tokens: 9 }, 0.0);
        view.memory = Some(1_250_000_000);
        let lines = view.lines(0.0, 200);
        assert_eq!(lines[0], "train      ━━━━━━────────────────── 10 of 40, 1 min 0 s left");
        assert_eq!(lines[1], "loss       1.000 █▆▃▁, validation 1.500, 50 tokens/s, 25 % padding");
        assert_eq!(lines[2], "memory     1.2 GB at most");
        assert_eq!(view.lines(0.0, 20)[0], "train      ━━━━━━──…");
    }

    #[test]
    fn an_evaluation_shows_what_is_over_and_what_is_to_come() {
        let mut view = View::default();
        view.hear(&Event::Reused { name: "train".to_owned(), parts: None }, 0.0);
        view.hear(&stage("evaluate base (1 of 4)", 10), 0.0);
        view.hear(&Event::StageDone { name: "evaluate base (1 of 4)".to_owned(), elapsed_s: 1.0 }, 1.0);
        view.hear(&stage("evaluate tuned (2 of 4)", 10), 1.0);
        let remaining = Some(Remaining { stage_s: 30.0, run_s: 90.0 });
        view.hear(&Event::Progress { done: 5, remaining }, 2.0);
        let lines = view.lines(2.0, 200);
        assert_eq!(
            lines,
            [
                "tuned      ━━━━━━━━━━━━──────────── 5 of 10, 30 s left, 1 min 30 s of all candidates",
                "done       train, base; 2 candidates to come",
            ]
        );
        view.hear(&Event::RunDone, 3.0);
        assert!(view.is_over);
    }

    #[test]
    fn a_study_s_time_left_follows_from_the_cells_that_are_done() {
        let mut view = View::default();
        view.hear(&Event::Cells { done: 2, all: 6 }, 0.0);
        let cell = |nth| Event::Cell { name: format!("seed-{nth}"), nth, of: 4 };
        view.hear(&cell(1), 0.0);
        assert_eq!(view.lines(1.0, 200), ["study      seed-1; 2 of 6 cells done, 3 to come"]);
        view.hear(&stage("train", 40), 0.0);
        view.hear(&cell(2), 100.0);
        assert_eq!(
            view.lines(150.0, 200),
            ["study      seed-2; 3 of 6 cells done, 2 to come; 4 min 10 s left of all"]
        );
    }
}
