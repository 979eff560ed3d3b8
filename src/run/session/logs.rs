//! `events.jsonl` and `metrics.csv`: what happened, a line each; the curves beside them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::folder::Folder;
use super::tensorboard::Curves;
use crate::device::peak_memory;
use crate::event::{Event, PairFigures, StepEvent, Unwritable};
use crate::snapshot::writer::{file_at_once, no_links};

/// `events.jsonl` and `metrics.csv`, one line a happening.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    events: File,
    curves: Curves,
    /// When progress was last written down.
    ticked: Option<Instant>,
}

/// Progress is written down at most this often.
const TICK: Duration = Duration::from_secs(5);

const METRICS_HEADER: &str =
    "step,epoch,loss,validation_loss,gradient_norm,learning_rate,trained_tokens,tokens,padding,elapsed_s";

/// The columns that follow where a step has more to tell: of pairs, and of penalties.
fn more(step: &StepEvent) -> Vec<(&'static str, f64)> {
    let pairs = step.pairs.iter().flat_map(|pairs| {
        let PairFigures { reward_chosen, reward_rejected, reward_margin, reward_accuracy } = *pairs;
        [
            ("reward_chosen", reward_chosen),
            ("reward_rejected", reward_rejected),
            ("reward_margin", reward_margin),
            ("reward_accuracy", reward_accuracy),
        ]
    });
    pairs.chain(step.penalty.map(|penalty| ("penalty", penalty))).collect()
}

impl Logs {
    /// Opens the logs of a run folder for appending.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn open(folder: &Folder) -> Result<Self, Unwritable> {
        let path = folder.path().join("events.jsonl");
        let unwritable = |source| Unwritable { folder: folder.path().to_owned(), source };
        let events = appended(&path).map_err(unwritable)?;
        let curves = Curves::of(folder.path());
        Ok(Self { folder: folder.path().to_owned(), events, curves, ticked: None })
    }

    /// Writes one event down; of progress only what whoever watches from elsewhere needs.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&mut self, event: &Event) -> Result<(), Unwritable> {
        let result = match event {
            Event::Progress { .. }
            | Event::Validating { .. }
            | Event::Reference { .. }
            | Event::Scores { .. } => match self.ticked {
                Some(last) if last.elapsed() < TICK => Ok(()),
                _ => {
                    self.ticked = Some(Instant::now());
                    self.line(event)
                }
            },
            _ => self.line(event).and_then(|()| self.metrics(event)).and_then(|()| self.curves.write(event)),
        };
        result.map_err(|source| Unwritable { folder: self.folder.clone(), source })
    }

    fn line(&mut self, event: &Event) -> std::io::Result<()> {
        let mut value = serde_json::to_value(event).expect("an event is plain data");
        if let Value::Object(map) = &mut value {
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            map.insert("time".to_owned(), Value::String(now));
            let memory = peak_memory().filter(|_| is_of_work(event));
            map.extend(memory.map(|bytes| ("peak_memory_bytes".to_owned(), Value::from(bytes))));
        }
        self.events.write_all(format!("{value}\n").as_bytes())
    }

    fn metrics(&self, event: &Event) -> std::io::Result<()> {
        let path = self.folder.join("metrics.csv");
        let row = match event {
            Event::Step(step) => {
                // What was there was killed before its first checkpoint.
                if step.step == 1 {
                    keep_rows(&path, up_to(0))?;
                }
                step_row(step)
            }
            Event::Validation { step, loss, .. } => {
                let look = format!("{step},,,");
                // The last look comes behind the last checkpoint, and is made again by who was killed in between.
                keep_rows(&path, |row| !row.starts_with(&look))?;
                let header = std::fs::read_to_string(&path).unwrap_or_default();
                let n_columns = header.lines().next().unwrap_or(METRICS_HEADER).split(',').count();
                let own = format!("{look}{loss}");
                format!("{own}{}\n", ",".repeat(n_columns - own.split(',').count()))
            }
            // Steps after the checkpoint are made again: their rows would stand twice.
            Event::Resumed { step } => return keep_rows(&path, up_to(*step)),
            _ => return Ok(()),
        };
        let mut file = appended(&path)?;
        if file.metadata()?.len() == 0 {
            let more = if let Event::Step(step) = event { more(step) } else { Vec::new() };
            let more: String = more.into_iter().map(|(name, _)| format!(",{name}")).collect();
            file.write_all(format!("{METRICS_HEADER}{more}\n").as_bytes())?;
        }
        file.write_all(row.as_bytes())
    }
}

/// Whether it tells of work that takes memory.
fn is_of_work(event: &Event) -> bool {
    matches!(event, Event::Step(_) | Event::Progress { .. } | Event::StageDone { .. })
}

fn appended(path: &Path) -> std::io::Result<File> {
    no_links(OpenOptions::new().create(true).append(true)).open(path)
}

fn step_row(step: &StepEvent) -> String {
    let more = more(step);
    let StepEvent {
        step,
        epoch,
        loss,
        gradient_norm,
        learning_rate,
        trained_tokens,
        tokens,
        padding,
        elapsed_s,
        ..
    } = step;
    let more: String = more.into_iter().map(|(_, value)| format!(",{value}")).collect();
    format!(
        "{step},{epoch},{loss},,{gradient_norm},{learning_rate},{trained_tokens},{tokens},{padding},{elapsed_s}{more}\n"
    )
}

/// The header, and rows of no later step than the last.
fn up_to(last: usize) -> impl Fn(&str) -> bool {
    let step = |row: &str| row.split(',').next().and_then(|step| step.parse::<usize>().ok());
    move |row| step(row).is_none_or(|step| step <= last)
}

fn keep_rows(path: &Path, keep: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
    let kept: String = text.lines().filter(|row| keep(row)).flat_map(|row| [row, "\n"]).collect();
    if kept == text {
        return Ok(());
    }
    file_at_once(path, kept.as_bytes()).map_err(|error| std::io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_training_that_begins_again_stand_once() {
        let run = tempfile::tempdir().unwrap();
        let folder = Folder::hold(run.path(), None).unwrap();
        let mut logs = Logs::open(&folder).unwrap();
        let step = |step| {
            Event::Step(StepEvent {
                step,
                last_step: 9,
                epoch: 0.0,
                loss: 1.0,
                gradient_norm: 1.0,
                learning_rate: 1.0,
                trained_tokens: 1,
                tokens: 1,
                padding: 0.0,
                elapsed_s: 1.0,
                pairs: None,
                penalty: None,
            })
        };
        let look = |step| Event::Validation { step, loss: 1.0, tokens: 1 };
        let resumed = |step| Event::Resumed { step };
        // Killed before its first checkpoint, it begins anew; then it goes on from one; at last it is killed between
        // its last checkpoint and its end.
        let first = [step(1), step(2), step(1), step(2), look(2), step(3)];
        for event in first.into_iter().chain([resumed(2), step(3), look(3), resumed(3), look(3)]) {
            logs.write(&event).unwrap();
        }
        let text = std::fs::read_to_string(run.path().join("metrics.csv")).unwrap();
        let rows: Vec<&str> = text.lines().map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(rows, ["step", "1", "2", "2", "3", "3"]);
    }
}
