//! Which Python runs the programs, and which of its files it needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::super::SandboxError;

/// Names the real executable, the folders of modules, and every library that is loaded: all that a sandbox must show.
const ASK: &str = r#"
import sys, os, json, sysconfig
for module in ("ssl", "ctypes", "decimal"):  # What they load is listed as well.
    try: __import__(module)
    except ImportError: pass
if sys.version_info < (3, 8): sys.exit("it is version %d.%d" % sys.version_info[:2])
try: has_ctypes = bool(__import__("ctypes").CDLL(None).prctl)
except Exception: has_ctypes = False
own = tuple(os.path.join(prefix, "") for prefix in (sys.prefix, sys.base_prefix))
path = [entry for entry in sys.path if entry.startswith(own) and os.path.exists(entry)]
maps = [line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if line.count("/")]
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps({"executable": os.path.realpath(base), "path": path, "version": sys.version.split()[0], "has_ctypes": has_ctypes,
  "files": path + [sysconfig.get_config_var("LIBDIR") or base] + [m for m in maps if os.path.isfile(m)]}))
"#;

/// Where loaders look for libraries, whatever the interpreter; and time zones.
const SYSTEM: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
];

/// An interpreter and what must be readable for it to run.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub executable: PathBuf,
    /// `sys.path`, a virtual environment's packages among it.
    pub path: Vec<String>,
    pub version: String,
    /// It can make system calls that it has no function for.
    pub has_ctypes: bool,
    /// Real folders and files, none under another.
    pub readable: Vec<PathBuf>,
    /// Links that lead to them: where they lie, and where they point.
    pub links: Vec<(PathBuf, PathBuf)>,
}

#[derive(Deserialize)]
struct Answer {
    executable: PathBuf,
    path: Vec<String>,
    version: String,
    has_ctypes: bool,
    files: Vec<PathBuf>,
}

impl Interpreter {
    /// `python3` of `PATH`, or the one that is named.
    pub fn find(named: Option<&Path>) -> Result<Self, SandboxError> {
        let name = named.unwrap_or(Path::new("python3"));
        let path = look_up(name).ok_or_else(|| SandboxError::NoPython { name: name.to_owned() })?;
        let bad = |found: String| SandboxError::BadPython { path: path.clone(), found };
        // Version managers put a script in `PATH` that needs its environment; the interpreter that it finds does not.
        let said = Command::new(&path)
            .args(["-I", "-c", ASK])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| bad(error.to_string()))?;
        if !said.status.success() {
            let words = String::from_utf8_lossy(&said.stderr);
            return Err(bad(words.lines().last().unwrap_or("it says nothing").to_owned()));
        }
        let answer: Answer = serde_json::from_slice(&said.stdout).map_err(|error| bad(error.to_string()))?;
        Ok(Self::of(answer))
    }

    fn of(answer: Answer) -> Self {
        let wanted = SYSTEM.iter().map(PathBuf::from).chain(answer.files).chain([answer.executable.clone()]);
        let (mut real, mut links) = (BTreeSet::new(), BTreeSet::new());
        for path in wanted {
            let Ok(target) = path.canonicalize() else { continue };
            if target.parent().is_none() {
                continue; // Never the whole machine.
            }
            if target != path && path.is_absolute() {
                links.insert((path, target.clone()));
            }
            real.insert(target);
        }
        let under = |path: &Path| path.ancestors().skip(1).any(|above| real.contains(above));
        let readable = real.iter().filter(|path| !under(path)).cloned().collect();
        Self {
            executable: answer.executable,
            path: answer.path,
            version: answer.version,
            has_ctypes: answer.has_ctypes,
            readable,
            links: links.into_iter().collect(),
        }
    }
}

fn look_up(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}
