//! `finetune watch`: a run or a study that runs elsewhere, by what its folder says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::manners::quiet;
use super::view::View;
use super::{print, progress, screen, stop_on_signals};
use crate::event::Event;
use crate::folders::{SETTINGS_BYTES, read_text};
use crate::recipe;
use crate::run::Failure;
use crate::run::failure::ReproduceError;
use crate::run::preview::duration;
use crate::run::session::folder::holder;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Without a terminal the view is printed at most this often.
const PACE_S: f64 = 10.0;
/// A run that nobody on this machine holds may be another machine's, unless it was silent for so long.
const SILENCE_S: f64 = 300.0;

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The folder of a run or of a study
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Print one view and end
    #[arg(long)]
    once: bool,
}

/// One run, read as far as its events go.
struct Run {
    name: String,
    folder: PathBuf,
    /// Bytes of `events.jsonl` that were read.
    read: u64,
    view: View,
    /// When something last happened.
    last: Option<f64>,
    began: Option<f64>,
    /// The process that holds it, if it is one of this machine.
    pid: Option<String>,
}

/// What is watched.
struct Watched {
    folder: PathBuf,
    runs: BTreeMap<PathBuf, Run>,
    /// The cells of a study; none of a run.
    cells: Option<Vec<String>>,
}

/// Shows what runs in a folder until it ends.
///
/// # Errors
///
/// The folder is none of a run or a study.
pub fn watch(args: &WatchArgs) -> Result<(), Failure> {
    let mut watched = Watched::open(&args.folder)?;
    watched.look()?;
    if args.once {
        print(&watched.lines(now(), usize::from(progress::width())).join("\n"));
        return Ok(());
    }
    let stop = stop_on_signals();
    let is_live = std::io::stderr().is_terminal() && !quiet();
    let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
    let bar = is_live.then(|| ProgressBar::new_spinner().with_style(style));
    let (mut before, mut printed) = (Vec::new(), f64::MIN);
    while !watched.is_over(now()) && !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let lines = watched.lines(now(), usize::from(progress::width()));
        if let Some(bar) = &bar {
            bar.set_message(screen::plain(&lines.join("\n")).into_owned());
            bar.tick();
        } else if lines != before && now() - printed >= PACE_S && !quiet() {
            printed = now();
            print(&lines.join("\n"));
            before = lines;
        }
        std::thread::sleep(LOOK);
        watched.look()?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    print(&watched.lines(now(), usize::from(progress::width())).join("\n"));
    Ok(())
}

fn now() -> f64 {
    Utc::now().timestamp_millis() as f64 / 1000.0
}

impl Watched {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let study = folder.join("study.toml");
        let is_run = folder.join("events.jsonl").is_file() || folder.join(".lock").is_file();
        let cells = match read_text(&study, SETTINGS_BYTES) {
            // A recipe that this version cannot read has cells all the same: those that are there.
            Ok(text) => Some(recipe::cells(&text, "study.toml", &[]).ok().flatten().unwrap_or_default()),
            Err(_) => None,
        };
        if cells.is_none() && !is_run {
            return Err(ReproduceError::NotARun {
                folder: folder.to_owned(),
                why: "it has neither `events.jsonl` nor `study.toml`".to_owned(),
                help: "name the folder that a run or a study writes into".to_owned(),
            }
            .into());
        }
        let cells = cells.map(|cells| cells.into_iter().map(|cell| cell.name).collect());
        Ok(Self { folder: folder.to_owned(), runs: BTreeMap::new(), cells })
    }

    /// Reads what is new.
    fn look(&mut self) -> Result<(), Failure> {
        let folders = match &self.cells {
            None => vec![(String::new(), self.folder.clone())],
            Some(_) => cell_folders(&self.folder),
        };
        for (name, folder) in folders {
            let run = self.runs.entry(folder.clone()).or_insert_with(|| Run::new(name, folder));
            run.look()?;
        }
        Ok(())
    }

    fn is_over(&self, at: f64) -> bool {
        let rests = self.runs.values().all(|run| !run.works(at));
        match &self.cells {
            None => rests,
            Some(cells) => {
                let n_done = self.runs.values().filter(|run| run.is_done()).count();
                let last = self.runs.values().filter_map(|run| run.last).fold(f64::MIN, f64::max);
                // Between two cells nobody holds one.
                rests && (n_done >= cells.len().max(1) || at - last > SILENCE_S)
            }
        }
    }

    fn lines(&self, at: f64, width: usize) -> Vec<String> {
        let Some(cells) = &self.cells else {
            let run = self.runs.values().next();
            return run.map_or_else(Vec::new, |run| run.lines(at, width));
        };
        let (working, resting): (Vec<&Run>, Vec<&Run>) = self.runs.values().partition(|run| run.works(at));
        let n_done = resting.iter().filter(|run| run.is_done()).count();
        let all = cells.len().max(self.runs.len());
        let to_come = all.saturating_sub(n_done + working.len());
        let mut first =
            format!("study      {n_done} of {all} cells done, {} running, {to_come} to come", working.len());
        let took: Vec<f64> = resting
            .iter()
            .filter(|run| run.is_done())
            .filter_map(|run| Some(run.last? - run.began?))
            .collect();
        if !took.is_empty() && !working.is_empty() {
            let mean = took.iter().sum::<f64>() / took.len() as f64;
            let rest = |run: &&Run| run.began.map_or(mean, |began| (mean - (at - began)).max(0.0));
            let left = mean * to_come as f64 + working.iter().map(rest).sum::<f64>();
            let _ = write!(first, ", {} left", duration(left / working.len() as f64));
        }
        let mut lines = vec![first];
        for run in working {
            lines.push(run.name.clone());
            lines.extend(
                run.view.lines(at, width.saturating_sub(2)).into_iter().map(|line| format!("  {line}")),
            );
        }
        lines
    }
}

/// The cells of a study that have begun, by name.
fn cell_folders(study: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(study.join("cells")).into_iter().flatten().flatten();
    let cell = |entry: std::fs::DirEntry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let (name, _) = file.rsplit_once('-')?;
        let is_run = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (is_run && !name.starts_with('.')).then(|| (name.to_owned(), entry.path()))
    };
    entries.filter_map(cell).collect()
}

impl Run {
    fn new(name: String, folder: PathBuf) -> Self {
        Self { name, folder, read: 0, view: View::default(), last: None, began: None, pid: None }
    }

    /// Reads the lines that came since the last look, whole ones only.
    fn look(&mut self) -> Result<(), Failure> {
        self.pid = holder(&self.folder)?;
        let Ok(mut file) = File::open(self.folder.join("events.jsonl")) else { return Ok(()) };
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes)).is_err() {
            return Ok(());
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
            let time = value["time"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
            let at = time.map(|time| time.timestamp_millis() as f64 / 1000.0);
            if let Some(bytes) = value["peak_memory_bytes"].as_u64() {
                self.view.memory = Some(bytes);
            }
            self.began = self.began.or(at);
            self.last = at.or(self.last);
            // An event that this version does not know says nothing to it.
            if let Ok(event) = serde_json::from_value::<Event>(value) {
                self.view.hear(&event, at.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Whether somebody works there: a process of this machine, or of another that was heard of lately.
    fn works(&self, at: f64) -> bool {
        let heard = self.last.is_some_and(|last| at - last <= SILENCE_S);
        self.pid.is_some() || (heard && !self.view.is_over)
    }

    fn is_done(&self) -> bool {
        self.view.is_over || self.folder.join("cell.json").is_file()
    }

    fn lines(&self, at: f64, width: usize) -> Vec<String> {
        let ago = self.last.map(|last| format!("; last heard of {} ago", duration((at - last).max(0.0))));
        let ago = ago.unwrap_or_default();
        let first = match (&self.pid, self.view.is_over) {
            (Some(pid), _) => format!("run        process {pid} works there{ago}"),
            (None, true) => format!("run        done{ago}"),
            (None, false) => format!("run        no process of this machine works there{ago}"),
        };
        [first].into_iter().chain(self.view.lines(at, width)).collect()
    }
}
