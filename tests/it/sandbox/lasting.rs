//! What a program could leave behind, or reach without opening it: memory, semaphores and queues of the machine, sockets,
//! locks on files, itself after we are killed, and long words in what is stored.
//!
//! Tried behind every set of protections, as this user and, where this is root, as another.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use finetune::sandbox::{Guard, Held, Options, Program, Sandbox, Verdict};

use super::hostile::{SETS, each_set, is_root, note, open, open_to_all_as, run, secret};

/// Tries each body; what raises no error has done harm, and is named on the output.
fn attempts(bodies: &[String]) -> String {
    let mut source = "import ctypes, fcntl, os, socket, struct\nlibc = ctypes.CDLL(None, use_errno=True)\ndef done(result):\n    if result == -1: raise OSError(ctypes.get_errno(), 'refused')\n".to_owned();
    for (idx, body) in bodies.iter().enumerate() {
        let body = body.lines().map(|line| format!("    {line}\n"));
        source.extend([format!("def attempt_{idx}():\n")].into_iter().chain(body));
    }
    let names = (0..bodies.len()).map(|idx| format!("attempt_{idx}")).collect::<Vec<_>>().join(", ");
    source
        + &format!(
            "def f():\n    worked = []\n    for attempt in [{names}]:\n        try: attempt()\n        except OSError: continue\n        worked.append(attempt.__name__)\n    print(len(worked), worked, flush=True)\n    return 'harm' if worked else 'harmless'\n"
        )
}

fn assert_none_works(name: &str, sandbox: &Sandbox, bodies: &[String]) {
    let outcome = run(sandbox, &attempts(bodies), 20.0);
    assert_eq!(outcome.verdict, Verdict::Passed, "`{name}`: {}\n{bodies:#?}", outcome.output);
}

/// By Python alone all work: one that fails there as well would prove nothing.
fn assert_all_work_unprotected(bodies: &[String]) {
    if let Some(said) = python(&format!("{}f()", attempts(bodies))) {
        assert!(said.starts_with(&format!("{} ", bodies.len())), "{said}\n{bodies:#?}");
    }
}

/// What Python says to a script, without a sandbox.
fn python(script: &str) -> Option<String> {
    let Ok(said) = Command::new("python3").args(["-c", script]).output() else {
        note("SKIPPED control: no Python");
        return None;
    };
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// A segment, a semaphore and a queue of this machine that all users may use, until this is dropped.
struct SystemV {
    ids: Vec<i32>,
}

impl SystemV {
    fn new() -> Option<Self> {
        let script = "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.shmget(0, 4096, 0o1666), libc.semget(0, 1, 0o1666), libc.msgget(0, 0o1666))";
        let ids: Vec<i32> =
            python(script)?.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        assert!(ids.iter().all(|id| *id >= 0), "{ids:?}");
        Some(Self { ids })
    }

    /// Ways to use them by number.
    fn uses(&self) -> Vec<String> {
        let [segment, semaphore, queue] = self.ids[..] else { panic!("three ids") };
        vec![
            format!("libc.shmat.restype = ctypes.c_long\ndone(libc.shmat({segment}, None, 0))"),
            format!("done(libc.shmctl({segment}, 2, ctypes.create_string_buffer(512)))"),
            format!("done(libc.semop({semaphore}, struct.pack('HhH', 0, 1, 0), 1))"),
            format!("done(libc.semctl({semaphore}, 0, 12))"), // `GETVAL`.
            format!("done(libc.msgsnd({queue}, struct.pack('l8s', 1, b'x'), 8, 0o4000))"),
            format!("done(libc.msgctl({queue}, 2, ctypes.create_string_buffer(512)))"),
        ]
    }
}

impl Drop for SystemV {
    fn drop(&mut self) {
        let [segment, semaphore, queue] = self.ids[..] else { return };
        let script = format!(
            "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.shmctl({segment}, 0, None)\nlibc.semctl({semaphore}, 0, 0)\nlibc.msgctl({queue}, 0, None)"
        );
        let _ = Command::new("python3").args(["-c", &script]).status();
    }
}

/// A key that no other test uses.
fn key() -> u32 {
    0x5b00_0000 | (std::process::id() & 0xff_ffff)
}

/// Ways to make new ones under our key; each is removed again, if asked.
fn makes(remove: bool) -> Vec<String> {
    let key = key();
    let remove = |how: &str| if remove { format!("\nlibc.{how}") } else { String::new() };
    vec![
        format!("made = libc.shmget({key}, 1 << 20, 0o1666)\ndone(made){}", remove("shmctl(made, 0, None)")),
        format!("made = libc.semget({key}, 1, 0o1666)\ndone(made){}", remove("semctl(made, 0, 0)")),
        format!("made = libc.msgget({key}, 0o1666)\ndone(made){}", remove("msgctl(made, 0, None)")),
    ]
}

/// How many of these the machine has.
fn made() -> usize {
    let key = key().to_string();
    let tables = ["shm", "sem", "msg"].map(|kind| std::fs::read_to_string(format!("/proc/sysvipc/{kind}")));
    let text = tables.map(Result::unwrap_or_default).concat();
    text.lines().filter(|line| line.split_whitespace().next() == Some(&key)).count()
}

#[test]
fn memory_semaphores_and_queues_of_the_machine_are_neither_used_nor_left() {
    let Some(others) = SystemV::new() else { return };
    assert_all_work_unprotected(&[others.uses(), makes(true)].concat());
    let name = format!("sandbox-test-{}", std::process::id());
    let by_name = [
        // As `shm_open` and `sem_open` do.
        format!("open('/dev/shm/{name}', 'w')"),
        "import multiprocessing\nmultiprocessing.Lock()".to_owned(),
        format!(
            "done(getattr(libc, 'mq_open', lambda *_: -1)(b'/{name}', os.O_CREAT | os.O_RDWR, 0o666, None))"
        ),
        format!("done(getattr(libc, 'mq_unlink', lambda *_: -1)(b'/{name}'))"),
    ];
    each_set(|set, sandbox| {
        let mut bodies = [&others.uses()[..], &by_name].concat();
        if sandbox.protection().seccomp {
            bodies.extend(makes(false));
        } else {
            // The namespace has its own, which end with it.
            run(sandbox, &attempts(&makes(false)), 20.0);
        }
        assert_none_works(set, sandbox, &bodies);
        assert_eq!(made(), 0, "`{set}`");
        assert!(!Path::new("/dev/shm").join(&name).exists(), "`{set}`");
    });
}

#[test]
fn no_datagram_reaches_a_socket_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let abstract_name = format!("sandbox-test-{}", std::process::id());
    let sockets = [
        UnixDatagram::bind(&path).unwrap(),
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap(),
    ];
    open_to_all_as(folder.path(), &["socket"]);
    let arrived = || {
        let heard = sockets.iter().filter(|socket| {
            socket.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| socket.recv(&mut [0]).ok()).count() > 0
        });
        heard.count()
    };
    let mut bodies = Vec::new();
    for address in [format!("'{}'", path.display()), format!("'\\0{abstract_name}'")] {
        for kind in ["DGRAM", "RAW"] {
            let pair = format!("one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_{kind})");
            bodies.push(format!("{pair}\none.sendto(b'x', {address})"));
            bodies.push(format!("{pair}\none.sendmsg([b'x'], [], 0, {address})"));
        }
    }
    assert_all_work_unprotected(&bodies);
    arrived();
    each_set(|name, sandbox| {
        assert_none_works(name, sandbox, &bodies);
        assert_eq!(arrived(), 0, "`{name}`");
        // What event loops wake themselves with.
        let pair = "import socket\ndef f():\n    one, other = socket.socketpair()\n    one.sendall(b'x')\n    return 'harmless' if other.recv(1) == b'x' else 'harm'";
        assert!(run(sandbox, pair, 10.0).verdict.passed(), "`{name}`");
    });
}

#[test]
fn a_file_that_is_only_readable_is_neither_locked_nor_marked() {
    let secret = secret();
    let file = format!("file = os.open('{}', os.O_RDONLY)", secret.path().join("key").display());
    let bodies = [
        format!("{file}\nfcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"),
        format!("{file}\nfcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)"),
    ];
    assert_all_work_unprotected(&bodies);
    // What not every file system has.
    let more = [
        // Whoever opens it next would wait, up to 45 s.
        format!("{file}\nfcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)"),
        // `FS_IOC_SETFLAGS`: no longer part of backups.
        format!("{file}\nfcntl.ioctl(file, 0x40086602, struct.pack('q', 0x40))"),
    ];
    let bodies = [&bodies[..], &more].concat();
    let watch = "done(libc.inotify_init1(0))".to_owned();
    each_set(|name, sandbox| {
        let n_watches = usize::from(sandbox.protection().seccomp);
        assert_none_works(name, sandbox, &[&bodies[..], &vec![watch.clone(); n_watches]].concat());
    });
}

/// Forgets to die with its starter, copies itself, executes Python from a thread; says by its name that it has tried.
fn outliving(name: &str) -> String {
    format!(
        "import ctypes, os, sys, threading, time\nlibc = ctypes.CDLL(None)\ndef stay(name):\n    libc.prctl(15, name, 0, 0, 0)\n    time.sleep(60)\ndef away():\n    try: os.execv(sys.executable, [sys.executable, '-c', 'import ctypes, time; ctypes.CDLL(None).prctl(15, b\"{name}\", 0, 0, 0); time.sleep(60)'])\n    except OSError: pass\ndef f():\n    libc.prctl(1, 0, 0, 0, 0)\n    try:\n        if os.fork() == 0:\n            os.setsid()\n            stay(b'{name}c')\n    except OSError: pass\n    thread = threading.Thread(target=away)\n    thread.start()\n    thread.join()\n    stay(b'{name}')\n"
    )
}

/// What is to be killed: the place of its set, and the name of its program, if it runs one.
const KILLED: &str = "SANDBOX_TEST_KILLED";

/// By itself this is nothing: the next test starts it in a process of its own.
#[test]
fn a_program_runs_until_we_are_killed() {
    let Ok(asked) = std::env::var(KILLED) else { return };
    let (set, name) = asked.split_once(':').unwrap();
    let (set, without) = SETS[set.parse::<usize>().unwrap()];
    let Some(sandbox) = open(set, Options { without: without.to_vec(), ..Options::default() }) else {
        return;
    };
    if name.is_empty() {
        return;
    }
    let verdict = run(&sandbox, &outliving(name), 60.0).verdict;
    panic!("the program ended before us: {verdict}");
}

fn start(set: usize, name: &str, temporary: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sandbox::lasting::a_program_runs_until_we_are_killed"]);
    command.env(KILLED, format!("{set}:{name}")).env("TMPDIR", temporary);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Processes that call themselves so, and that are more than their remains.
fn named(name: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let found = stats.filter_map(|stat| {
        let (pid, rest) = stat.split_once(" (")?;
        let (called, rest) = rest.rsplit_once(") ")?;
        let lives = !rest.starts_with('Z') && !rest.starts_with('X');
        (called.starts_with(name) && lives).then(|| pid.parse().ok())?
    });
    found.collect()
}

/// Waits until it is so, for a while.
fn comes_true(mut is_so: impl FnMut() -> bool, seconds: u64) -> bool {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    is_so()
}

/// Folders of ours in a temporary folder.
fn folders(temporary: &Path) -> usize {
    let names = std::fs::read_dir(temporary).unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with("sandbox-")).count()
}

/// Kills our process while its program runs; says what of the program lives on, if it ran at all.
fn kill_while_running(set: usize, temporary: &Path) -> Option<Vec<i32>> {
    let name = format!("out{}-{set}", std::process::id());
    let mut ours = start(set, &name, temporary);
    let mut ended = None;
    let is_tried = || {
        ended = ours.try_wait().unwrap();
        ended.is_some() || named(&name).len() > named(&format!("{name}c")).len()
    };
    assert!(comes_true(is_tried, 60), "`{}`: no program came up", SETS[set].0);
    if let Some(status) = ended {
        assert!(status.success(), "`{}`: its program ended before us", SETS[set].0);
        return None;
    }
    ours.kill().unwrap();
    ours.wait().unwrap();
    comes_true(|| named(&name).is_empty(), 5);
    let left = named(&name);
    for pid in left.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    Some(left)
}

#[test]
fn nothing_outlives_a_kill_and_what_it_left_is_cleared_up_at_the_next_start() {
    std::thread::scope(|scope| {
        for (set, (name, without)) in SETS.iter().enumerate() {
            scope.spawn(move || {
                let temporary = tempfile::tempdir().unwrap();
                let Some(left) = kill_while_running(set, temporary.path()) else {
                    return note(&format!("SKIPPED `{name}`: no program ran that could outlive us"));
                };
                assert_eq!(left, Vec::<i32>::new(), "`{name}`");
                if !without.contains(&Guard::Namespaces) {
                    assert_eq!(folders(temporary.path()), 1, "`{name}`");
                    assert!(start(set, "", temporary.path()).wait().unwrap().success(), "`{name}`");
                    assert_eq!(folders(temporary.path()), 0, "`{name}`");
                }
            });
        }
    });
}

#[test]
fn what_is_said_of_a_failure_is_short_and_says_that_it_was_cut() {
    // In the words of its own runner, beside the runner, and as a judge.
    let own = "import json, os\ndef f():\n    said = {'raised': [['builtins', 'ValueError']], 'line': 'x' * (1 << 20), 'value': None, 'new': [], 'changed': []}\n    data = (json.dumps(said) + '\\n').encode()\n    while data: data = data[os.write(4, data):]\n    os._exit(0)";
    let forged = "import os\ndef f():\n    data = b'{\"failed\": \"' + b'x' * 60000 + b'\"}\\n'\n    while data: data = data[os.write(4, data):]\n    os._exit(0)";
    let honest = "def f(): raise type('E' * 1000, (ValueError,), {})('x' * (1 << 20))";
    let attribute =
        "def f():\n    error = ValueError('y' * 1000)\n    error.more = 'x' * (1 << 20)\n    raise error";
    let timeout = Duration::from_secs(20);
    let test = "def check(candidate):\n    candidate()\n";
    let mut is_first = true;
    each_set(|name, sandbox| {
        let mut all = vec![(own, Held::Apart), (forged, Held::Together)];
        if std::mem::take(&mut is_first) {
            all.extend([(honest, Held::Apart), (honest, Held::Together), (attribute, Held::Apart)]);
        }
        for (source, held) in all {
            let program = Program { source, prelude: "", test, entry_point: "f", timeout };
            match sandbox.run_held(&program, held).unwrap().verdict {
                Verdict::Failed { message } => {
                    assert!(message.len() <= 2 << 10, "`{name}`: {} bytes\n{source}", message.len());
                    assert!(message.contains("… (cut, "), "`{name}`: {message}\n{source}");
                }
                verdict => panic!("`{name}`: {verdict}\n{source}"),
            }
        }
    });
}

/// Where no statement makes it, a class has no module.
#[test]
fn a_class_that_a_call_makes_is_carried_like_any_other() {
    let Some(sandbox) = open("all", Options::default()) else { return };
    let source = "Odd = type('Odd', (ValueError,), {})\ndef f(wrong):\n    if wrong: raise Odd('no')\n    return [Odd]";
    let test = "def check(candidate):\n    assert len(candidate(False)) == 1\n    try: candidate(True)\n    except ValueError: return\n    assert False";
    let timeout = Duration::from_secs(20);
    for held in [Held::Apart, Held::Together] {
        let program =
            Program { source, prelude: "Even = type('Even', (), {})\n", test, entry_point: "f", timeout };
        assert_eq!(sandbox.run_held(&program, held).unwrap().verdict, Verdict::Passed, "{held:?}");
    }
}

#[test]
fn an_answer_that_is_too_long_fails_by_name() {
    let Some(sandbox) = open("all", Options::default()) else { return };
    let verdict = run(&sandbox, "def f(): return 'x' * (1 << 26)", 20.0).verdict;
    let failed = matches!(&verdict, Verdict::Failed { message } if message.starts_with("OverflowError: "));
    assert!(failed, "{verdict}");
}

#[test]
fn the_same_holds_for_another_user() {
    if !is_root() {
        return note("SKIPPED: only root can become another user");
    }
    let temporary = tempfile::tempdir().unwrap();
    // A copy, for this user may not enter the folder where we lie, and the tests start themselves.
    let tests = temporary.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    open_to_all_as(temporary.path(), &["tests"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&tests);
    command.args(["sandbox::lasting::", "--nocapture"]);
    // This test, and those on words, which are the same for all users.
    command.args(
        ["another_user", "that_it_was_cut", "fails_by_name", "like_any_other"]
            .map(|name| format!("--skip={name}")),
    );
    // Their own interpreter: that of root may lie in root's home.
    command.env("PATH", "/usr/bin:/bin").env("HOME", temporary.path()).env("TMPDIR", temporary.path());
    let Ok(said) = command.stdin(Stdio::null()).output() else {
        return note("SKIPPED as another user: there is no `setpriv`");
    };
    let words = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if matches!(said.status.code(), Some(126 | 127)) {
        return note(&format!("SKIPPED as another user: {words}"));
    }
    assert!(said.status.success() && words.contains("test result: ok. 5 passed"), "{words}");
    words
        .lines()
        .filter(|line| line.contains("SKIPPED"))
        .for_each(|line| note(&format!("as nobody: {line}")));
}
