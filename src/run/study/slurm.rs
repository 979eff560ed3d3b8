//! A study as jobs of Slurm: scripts that a person reads and edits, chained by dependencies.
//!
//! First the bases are asked, once for all cells; then a job array has a task for each missing cell; then the report is
//! written. Tasks share nothing but the study's folder and this program's cache: a cell is held by a lock on a file, and
//! every file of a result appears whole, by renaming. Both are asked of the file system that the nodes share.

use std::fmt::Write;
use std::path::Path;

use super::Study;
use crate::run::failure::Failure;
use crate::snapshot::writer::file_at_once;

/// One job: its script, by the name that it has in the folder `slurm` of the study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub name: &'static str,
    pub script: String,
}

/// How this program is started for the study: itself and the words behind it.
#[derive(Debug, Clone)]
pub struct Start {
    pub program: String,
    /// Recipe, `--set`, `--merge` and the like, without `--cell` and `--out`.
    pub words: Vec<String>,
    /// The folder that paths are seen from.
    pub here: String,
}

/// Seconds before a job's time limit at which it is told to save and make room.
const NOTICE_S: u32 = 120;
/// A task that was killed is tried again so often.
const TRIES: u32 = 10;

/// The jobs of what is missing; none if nothing is.
pub fn jobs(study: &Study, start: &Start) -> Vec<Job> {
    let [alone, joint] = study.missing_names();
    if alone.is_empty() && joint.is_empty() {
        return Vec::new();
    }
    let head = |name: &str, more: &str, about: &str| {
        let folder = absolute(&study.folder.join("slurm"));
        let log = if more.is_empty() { format!("{name}.log") } else { format!("{name}-%a.log") };
        let mut text = format!("#!/bin/bash\n# {about}\n");
        let lines = [
            format!("--job-name={}-{name}", study.name),
            format!("--chdir={}", in_a_line(&start.here)),
            format!("--output={}", in_a_line(&format!("{folder}/{log}"))),
            "--open-mode=append".to_owned(),
            "--requeue".to_owned(),
            format!("--signal=B:TERM@{NOTICE_S}"),
        ];
        for line in
            lines.iter().map(String::as_str).chain(std::iter::once(more)).filter(|line| !line.is_empty())
        {
            let _ = writeln!(text, "#SBATCH {line}");
        }
        text
    };
    let out = quoted(&absolute(&study.folder));
    let words: Vec<String> =
        std::iter::once(&start.program).chain(&start.words).map(|word| quoted(word)).collect();
    let command = |rest: &str| format!("{} --out {out} {rest}", words.join(" "));
    let array = |name: &'static str, about: &str, cells: &[String]| {
        let names: Vec<String> = cells.iter().map(|name| quoted(name)).collect();
        let tasks = format!("--array=0-{}", cells.len().saturating_sub(1));
        let work = going_on(
            &command("--cell \"${cells[$SLURM_ARRAY_TASK_ID]}\""),
            "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        );
        let script = format!("{}cells=({})\n{work}", head(&name[2..], &tasks, about), names.join(" "));
        (!cells.is_empty()).then_some(Job { name, script })
    };
    let bases = head("bases", "", "Asks every base once, so that the cells find its answers.");
    let report = head("report", "", "Writes the report of the cells that are there.");
    [
        Some(Job {
            name: "1-bases",
            script: format!("{bases}{}", going_on(&command("--bases"), "$SLURM_JOB_ID")),
        }),
        array("2-cells", "Runs one cell of the study for each task.", &alone),
        array("3-seeds", "Merges what the seeds gave, one group of cells for each task.", &joint),
        Some(Job { name: "4-report", script: format!("{report}exec {}\n", command("--gather")) }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs a command that saves and ends with 6 when it is told to stop, and asks for another turn then, or if it was killed.
fn going_on(command: &str, job: &str) -> String {
    format!(
        "{command} &\nwork=$!\n\
         # Told to stop, before the time limit or because others come first, the work saves what it has.\n\
         trap 'kill -TERM $work' TERM\n\
         wait $work; code=$?\n\
         while kill -0 $work 2>/dev/null; do wait $work; code=$?; done\n\
         # 6: stopped on request. Above 128: killed, as by a lack of memory.\n\
         if [ $code = 6 ] || {{ [ $code -gt 128 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {TRIES} ]; }}; then\n\
         \x20   scontrol requeue \"{job}\"\n\
         fi\n\
         exit $code\n"
    )
}

/// Writes the scripts into the folder `slurm` of the study.
///
/// # Errors
///
/// The folder is another's, or the disk refuses.
pub fn write(study: &Study, jobs: &[Job]) -> Result<(), Failure> {
    study.claim()?;
    let folder = study.folder.join("slurm");
    let unwritable = |source| crate::event::Unwritable { folder: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(unwritable)?;
    for job in jobs {
        file_at_once(&folder.join(format!("{}.sh", job.name)), job.script.as_bytes())?;
    }
    Ok(())
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// A path as a line of options holds it: in quotes, where it has blanks; it cannot end the line.
fn in_a_line(path: &str) -> String {
    let path: String = path.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if path.contains(' ') { format!("\"{path}\"") } else { path }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_comes_through_a_shell_as_it_is() {
        for word in ["--set", "train.steps=20", "a b", "it's", "$HOME", "", "`x`"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quoted(word)))
                .output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
    }
}
