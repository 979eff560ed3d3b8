//! What a person sees while a run runs: one view on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::manners::quiet;
use super::screen::plain;
use super::view::View;
use crate::device::peak_memory;
use crate::event::{Event, Remaining, StepEvent};
use crate::hub::Transfer;
use crate::run::preview::duration;

/// Without a terminal a line is written at most this often.
const PACE: Duration = Duration::from_secs(10);

/// On a terminal the view is drawn at most this often.
const FRAME: Duration = Duration::from_millis(200);

/// Shows the events of a run: as one view on a terminal, as lines elsewhere.
pub struct Progress {
    live: Option<Live>,
    stage: String,
    total: u64,
    begun: Instant,
    last_line: Instant,
    /// Of this process: a resumed run has made steps before.
    first_step: Option<usize>,
}

/// The view on a terminal.
struct Live {
    view: View,
    bar: ProgressBar,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    pub fn new() -> Self {
        let is_live = std::io::stderr().is_terminal() && !quiet();
        Self {
            live: is_live.then(Live::new),
            stage: String::new(),
            total: 0,
            begun: Instant::now(),
            last_line: Instant::now(),
            first_step: None,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        if let Some(live) = &mut self.live {
            live.show(event);
            return;
        }
        match event {
            Event::Stage { name, total, reused } => self.begin(name, *total, *reused),
            Event::Progress { done, remaining } => self.progress(*done, *remaining),
            Event::Step(step) => self.step(step),
            Event::StageDone { name, elapsed_s } => {
                say(&format!("{name}: done in {}", duration(*elapsed_s)));
            }
            Event::Validating { done, total } => self.aside("validation", *done, *total),
            Event::Reference { done, total } => self.aside("log-probabilities of the base", *done, *total),
            Event::Scores { done, total } => {
                self.aside("the reward model's scores of the pairs", *done, *total);
            }
            other => {
                if let Some(text) = in_words(other) {
                    say(&text);
                }
            }
        }
    }

    fn begin(&mut self, name: &str, total: u64, reused: Option<u64>) {
        name.clone_into(&mut self.stage);
        let now = Instant::now();
        (self.total, self.first_step, self.begun, self.last_line) = (total, None, now, now);
        let parts = match reused {
            None => "begins".to_owned(),
            Some(reused) if total == 0 => format!("all {reused} reused"),
            Some(0) => format!("{total} new"),
            Some(reused) => format!("{reused} reused, {total} new"),
        };
        say(&format!("{name}: {parts}"));
    }

    /// What was measured, or else from the parts that are done, and nothing before the first of them.
    fn progress(&mut self, done: u64, remaining: Option<Remaining>) {
        let text = match remaining {
            Some(Remaining { stage_s, run_s }) if run_s > stage_s + 1.0 => {
                format!("{} left, {} of all candidates", duration(stage_s), duration(run_s))
            }
            Some(Remaining { stage_s, .. }) => format!("{} left", duration(stage_s)),
            None if done > 0 && done < self.total => {
                let per_part = self.begun.elapsed().as_secs_f64() / done as f64;
                format!("{} left", duration(per_part * (self.total - done) as f64))
            }
            None => String::new(),
        };
        self.advance(done, &text);
    }

    fn step(&mut self, step: &StepEvent) {
        let first = *self.first_step.get_or_insert(step.step - 1);
        let made = (step.step - first) as f64;
        let rate = step.tokens as f64 * made / step.elapsed_s;
        let StepEvent { loss, padding, pairs, .. } = step;
        let left = (step.last_step - step.step) as f64 * step.elapsed_s / made;
        let mut text = format!("loss {loss:.3}, {rate:.0} tokens/s, {:.0} % padding", 100.0 * padding);
        if let Some(pairs) = pairs {
            text = format!("{text}, margin {:.3}", pairs.reward_margin);
        }
        if step.step < step.last_step {
            text = format!("{text}, {} left of training", duration(left));
        }
        self.advance(step.step as u64, &text);
    }

    fn advance(&mut self, done: u64, text: &str) {
        if self.last_line.elapsed() >= PACE {
            self.last_line = Instant::now();
            let text = if text.is_empty() { String::new() } else { format!(", {text}") };
            say(&format!("{}: {done} of {}{text}", self.stage, self.total));
        }
    }

    /// The stage stands still meanwhile.
    fn aside(&mut self, what: &str, done: usize, total: usize) {
        if self.last_line.elapsed() >= PACE {
            self.last_line = Instant::now();
            say(&format!("{what}, {done} of {total} batches"));
        }
    }
}

impl Live {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
        // Nothing is drawn before there is something to show.
        let bar = ProgressBar::new_spinner().with_style(style);
        Self { view: View::default(), bar, begun: Instant::now(), drawn: None }
    }

    fn show(&mut self, event: &Event) {
        let at = self.begun.elapsed().as_secs_f64();
        self.view.hear(event, at);
        let is_tick = matches!(event, Event::Progress { .. } | Event::Step(_) | Event::Validating { .. });
        if let Event::Note { .. } | Event::Resumed { .. } | Event::Validation { .. } = event {
            let text = in_words(event).unwrap_or_default();
            self.bar.suspend(|| say(&text));
        }
        if is_tick && self.drawn.is_some_and(|drawn| drawn.elapsed() < FRAME) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.view.memory = peak_memory();
        let lines = self.view.lines(at, usize::from(screen_width()));
        self.bar.set_message(plain(&lines.join("\n")).into_owned());
        self.bar.tick();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A happening as a line; none where it is no news.
fn in_words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Reused { name, parts: None } => format!("{name}: done before"),
        Event::Reused { name, parts: Some(n) } => format!("{name}: all {n} reused"),
        Event::Validation { step, loss, tokens } => {
            format!("step {step}: validation loss {loss:.4} over {tokens} tokens")
        }
        Event::Resumed { step } => format!("resuming from step {step}"),
        Event::Note { text } => text.clone(),
        Event::Cells { done, all } => format!("{done} of {all} cells are done"),
        Event::Cell { name, nth, of } => format!("cell {nth} of {of}: {name}"),
        _ => return None,
    })
}

/// How wide the terminal is that stderr goes to.
fn screen_width() -> u16 {
    terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(terminal_size::Width(width), _)| width)
}

/// Shows files as they come.
#[derive(Default)]
pub struct Transfers {
    current: Option<Current>,
}

/// The file that is coming.
struct Current {
    file: String,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    /// What was there before: a resumed file is no fast one.
    had: u64,
}

impl Transfers {
    /// Shows that more of a file is there.
    pub fn show(&mut self, transfer: Transfer<'_>) {
        let Transfer { file, done, total } = transfer;
        let current = match &mut self.current {
            Some(current) if current.file == file => current,
            current => current.insert(Current::new(transfer)),
        };
        if let Some(bar) = &current.bar {
            bar.set_position(done);
        }
        let elapsed_s = current.started.elapsed().as_secs_f64();
        let rate = match elapsed_s >= 1.0 {
            true => {
                format!(", {}/s", HumanBytes((done.saturating_sub(current.had) as f64 / elapsed_s) as u64))
            }
            false => String::new(),
        };
        if done == total {
            self.current = None;
            say(&format!("fetched {file}, {}{rate}", HumanBytes(total)));
        } else if current.bar.is_none() && current.last_line.elapsed() >= PACE {
            current.last_line = Instant::now();
            say(&format!("{file}: {} of {}{rate}", HumanBytes(done), HumanBytes(total)));
        }
    }
}

impl Current {
    fn new(transfer: Transfer<'_>) -> Self {
        let Transfer { file, done, total } = transfer;
        let bar = (std::io::stderr().is_terminal() && !quiet()).then(|| {
            let template = "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(plain(file).into_owned());
            bar.with_position(done)
        });
        if let Some(bar) = &bar {
            bar.reset_eta();
        }
        let now = Instant::now();
        Self { file: file.to_owned(), bar, started: now, last_line: now, had: done }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on stderr, unless only errors and the final result are said.
pub fn say(text: &str) {
    if !quiet() {
        ask(text);
    }
}

/// A question on stderr, which somebody has to answer however little is said.
pub fn ask(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain(text));
}

/// How wide tables may be.
pub fn width() -> u16 {
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((terminal_size::Width(width), _)) => width.max(60),
        None => 140,
    }
}
