//! `events.jsonl` and `metrics.csv`: what happened, a line each.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::Folder;
use crate::event::{Event, PairFigures, StepEvent, Unwritable};
use crate::snapshot::writer::{file_at_once, no_links};

/// `events.jsonl` and `metrics.csv`, one line a happening.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    events: File,
}

const METRICS_HEADER: &str =
    "step,epoch,loss,validation_loss,gradient_norm,learning_rate,trained_tokens,tokens,padding,elapsed_s";
/// The columns that follow where pairs are learned from.
const OF_PAIRS: &str = ",reward_chosen,reward_rejected,reward_margin,reward_accuracy";

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
        Ok(Self { folder: folder.path().to_owned(), events })
    }

    /// Writes one event down. Progress ticks are for the terminal only.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&mut self, event: &Event) -> Result<(), Unwritable> {
        let result = match event {
            Event::Progress { .. } | Event::Validating { .. } | Event::Reference { .. } => Ok(()),
            _ => self.line(event).and_then(|()| self.metrics(event)),
        };
        result.map_err(|source| Unwritable { folder: self.folder.clone(), source })
    }

    fn line(&mut self, event: &Event) -> std::io::Result<()> {
        let mut value = serde_json::to_value(event).expect("an event is plain data");
        if let Value::Object(map) = &mut value {
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            map.insert("time".to_owned(), Value::String(now));
        }
        self.events.write_all(format!("{value}\n").as_bytes())
    }

    fn metrics(&self, event: &Event) -> std::io::Result<()> {
        let path = self.folder.join("metrics.csv");
        let has_pairs = |text: &str| text.lines().next().is_some_and(|header| header.ends_with(OF_PAIRS));
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
                let more = if std::fs::read_to_string(&path).is_ok_and(|text| has_pairs(&text)) {
                    ",,,,"
                } else {
                    ""
                };
                format!("{look}{loss},,,,,,{more}\n")
            }
            // Steps after the checkpoint are made again: their rows would stand twice.
            Event::Resumed { step } => return keep_rows(&path, up_to(*step)),
            _ => return Ok(()),
        };
        let mut file = appended(&path)?;
        if file.metadata()?.len() == 0 {
            let more =
                if matches!(event, Event::Step(StepEvent { pairs: Some(_), .. })) { OF_PAIRS } else { "" };
            file.write_all(format!("{METRICS_HEADER}{more}\n").as_bytes())?;
        }
        file.write_all(row.as_bytes())
    }
}

fn appended(path: &Path) -> std::io::Result<File> {
    no_links(OpenOptions::new().create(true).append(true)).open(path)
}

fn step_row(step: &StepEvent) -> String {
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
        pairs,
        ..
    } = step;
    let pairs = pairs.as_ref().map(|pairs| {
        let PairFigures { reward_chosen, reward_rejected, reward_margin, reward_accuracy } = pairs;
        format!(",{reward_chosen},{reward_rejected},{reward_margin},{reward_accuracy}")
    });
    let pairs = pairs.unwrap_or_default();
    format!(
        "{step},{epoch},{loss},,{gradient_norm},{learning_rate},{trained_tokens},{tokens},{padding},{elapsed_s}{pairs}\n"
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
