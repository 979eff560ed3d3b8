//! Programs that mean harm, behind every set of protections that this machine offers.
//!
//! Each set is opened by itself; one that the machine does not offer is named on standard error and left out. A program
//! says through its return value whether it did harm: `check` wants the word `harmless`, so a program that cannot do what
//! it tries, catches the error and says so, passes; everything else is a finding.

#[cfg(all(test, target_os = "linux"))]
mod lasting;

#[cfg(all(test, target_os = "linux"))] // Clippy lets tests unwrap by this mark.
mod hostile {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use finetune::sandbox::{Guard, Options, Outcome, Program, Sandbox, SandboxError, Verdict};
    use serde_json::Value;

    use crate::fixture::{shared_data, shared_lines};
    use crate::golden_eval::sandbox::HUMAN_EVAL;

    const HARMLESS: &str = "def check(candidate):\n    assert candidate() == 'harmless'\n";

    /// Protections to open: a name, and what is switched off.
    pub(super) const SETS: &[(&str, &[Guard])] = &[
        ("all", &[]),
        ("namespaces without seccomp", &[Guard::Seccomp]),
        ("namespaces without a user namespace", &[Guard::UserNamespace]),
        ("Landlock and seccomp", &[Guard::Namespaces]),
        ("seccomp", &[Guard::Namespaces, Guard::Landlock]),
    ];

    pub(super) fn note(text: &str) {
        let mut stderr = std::io::stderr(); // Not `eprintln`, which the test harness keeps to itself.
        writeln!(stderr, "sandbox: {text}").unwrap();
    }

    /// The sandboxes that this machine offers with what was asked for, and a word for those that it does not.
    pub(super) fn each_set(mut deed: impl FnMut(&str, &Sandbox)) {
        let mut n_sets = 0;
        for (name, without) in SETS {
            let Some(sandbox) = open(name, Options { without: without.to_vec(), ..Options::default() })
            else {
                continue;
            };
            n_sets += 1;
            deed(name, &sandbox);
        }
        if n_sets == 0 {
            note("SKIPPED: no set of protections works here");
        }
    }

    pub(super) fn open(name: &str, options: Options) -> Option<Sandbox> {
        let off = |guard| options.without.contains(&guard);
        let sandbox = match Sandbox::open(&options) {
            Ok(sandbox) => sandbox,
            Err(error @ (SandboxError::Unprotected { .. } | SandboxError::NoPython { .. })) => {
                note(&format!("SKIPPED `{name}`: {error}"));
                return None;
            }
            Err(error) => panic!("`{name}`: {error}"),
        };
        let protection = sandbox.protection();
        let whole = protection.namespaces != off(Guard::Namespaces)
            && protection.seccomp != off(Guard::Seccomp)
            && (protection.user_namespace || off(Guard::UserNamespace) || off(Guard::Namespaces))
            && (protection.landlock.is_some() || protection.namespaces || off(Guard::Landlock));
        match whole {
            true => Some(sandbox),
            false => {
                note(&format!("SKIPPED `{name}`: found {protection}"));
                None
            }
        }
    }

    pub(super) fn run(sandbox: &Sandbox, source: &str, seconds: f64) -> Outcome {
        run_with(sandbox, source, HARMLESS, seconds)
    }

    fn run_with(sandbox: &Sandbox, source: &str, test: &str, seconds: f64) -> Outcome {
        let timeout = Duration::from_secs_f64(seconds);
        sandbox.run(&Program { source, prelude: "", test, entry_point: "f", timeout }).unwrap()
    }

    /// Wraps the body of a program that tries something: an error means that it could not.
    fn attempt(body: &str) -> String {
        let body: String = body.lines().map(|line| format!("        {line}\n")).collect();
        format!(
            "import os, sys, signal, time\ndef f():\n    try:\n{body}    except (OSError, MemoryError, RuntimeError):\n        return 'harmless'\n    return 'harm'\n"
        )
    }

    fn assert_harmless(name: &str, sandbox: &Sandbox, body: &str) {
        let outcome = run(sandbox, &attempt(body), 20.0);
        assert_eq!(outcome.verdict, Verdict::Passed, "`{name}`: {body}\n{}", outcome.output);
    }

    #[test]
    fn a_line_says_which_protection_is_active() {
        each_set(|name, sandbox| note(&format!("`{name}`: {}", sandbox.protection())));
    }

    #[test]
    fn without_any_protection_nothing_runs_unless_told() {
        let mut options = Options {
            without: vec![Guard::Namespaces, Guard::Landlock, Guard::Seccomp],
            ..Options::default()
        };
        match Sandbox::open(&options) {
            Err(SandboxError::NoPython { .. }) => return note("SKIPPED: no Python"),
            opened => assert!(matches!(opened, Err(SandboxError::Unprotected { .. }))),
        }
        options.allow_unprotected = true;
        let sandbox = Sandbox::open(&options).unwrap();
        assert!(sandbox.protection().to_string().contains("UNPROTECTED"));
        assert!(run(&sandbox, "def f(): return 'harmless'", 5.0).verdict.passed());
    }

    #[test]
    fn a_pass_cannot_be_forged() {
        // Each as the body of the module; `f` answers wrongly wherever it is reached.
        let forgeries = [
            "import os\nos._exit(0)",
            "import sys\nsys.exit(0)",
            "raise SystemExit",
            "import os\ndef f(): os._exit(0)",
            "import atexit, os\natexit.register(lambda: os.write(6, b'{\"passed\": true}\\n'))\ndef f(): return 1",
            // Speaks the judge's words on every file that is open.
            "import os\nfor fd in range(3, 64):\n  try: os.write(fd, b'{\"passed\": true}\\n{\"value\": null}\\n')\n  except OSError: pass\ndef f(): return 1",
            "import builtins\nbuiltins.AssertionError = builtins.Exception = type('E', (BaseException,), {})\ndef f(): return 1",
            "class Yes(str):\n  def __eq__(self, other): return True\n  __hash__ = None\ndef f(): return Yes('no')",
            "class Yes:\n  def __eq__(self, other): return True\ndef f(): return Yes()",
            "class Yes(list):\n  def __eq__(self, other): return True\ndef f(): return Yes()",
            "import sys\nsys.modules['json'].dumps = lambda value: '{\"passed\": true}'\ndef f(): return 1",
            "import gc\nfor o in gc.get_objects():\n  if isinstance(o, dict) and 'check' in o: o['check'] = lambda c: None\ndef f(): return 1",
            // Looks for the tests in all that called it, by a text that itself does not hold.
            "import sys\ndef f():\n  frame = sys._getframe()\n  while frame:\n    for value in [*frame.f_globals.values(), *frame.f_locals.values()]:\n      if '(kcehc fed'[::-1] in str(value): return bytes([104, 97, 114, 109, 108, 101, 115, 115]).decode()\n    frame = frame.f_back",
            "def f(): raise GeneratorExit",
            "def f(): raise KeyboardInterrupt",
            "import sys, threading\nthreading.excepthook = sys.excepthook = print\ndef f(): raise StopIteration",
        ];
        each_set(|name, sandbox| {
            for source in forgeries {
                let outcome = run(sandbox, source, 10.0);
                let failed = matches!(outcome.verdict, Verdict::Failed { .. });
                assert!(failed, "`{name}`: {}\n{source}\n{}", outcome.verdict, outcome.output);
            }
        });
    }

    /// A test that forgives every exception does not forgive a program that is gone.
    #[test]
    fn leaving_is_not_an_exception_to_catch() {
        let test = "def check(f):\n    try: f()\n    except: return\n    assert False";
        each_set(|name, sandbox| {
            let raised = run_with(sandbox, "def f(): raise ValueError", test, 10.0).verdict;
            assert_eq!(raised, Verdict::Passed, "`{name}`");
            for source in
                ["import os\ndef f(): os._exit(0)", "import os\ndef f(): os.write(4, b'nonsense\\n')"]
            {
                let verdict = run_with(sandbox, source, test, 10.0).verdict;
                assert!(matches!(verdict, Verdict::Failed { .. }), "`{name}`: {verdict}\n{source}");
            }
        });
    }

    #[test]
    fn verdicts_name_the_exception() {
        each_set(|_, sandbox| {
            let message = |source: &str| match run(sandbox, source, 10.0).verdict {
                Verdict::Failed { message } => message,
                verdict => panic!("{source}: {verdict}"),
            };
            assert_eq!(message("def f(): raise ValueError('no')"), "ValueError: no");
            assert_eq!(message("def f(): return 1"), "AssertionError");
            assert_eq!(message("def f(:"), "SyntaxError: invalid syntax");
            assert_eq!(message("x = 1"), "KeyError: 'f'");
            assert_eq!(message("class Odd(Exception): pass\ndef f(): raise Odd('x')"), "Odd: x");
        });
    }

    #[test]
    fn values_arrive_as_they_are() {
        let sandbox = Sandbox::open(&Options::default());
        let Ok(sandbox) = sandbox else { return note("SKIPPED: no sandbox") };
        let test = "import math\nfrom decimal import Decimal\nfrom fractions import Fraction\ndef check(f):\n\
            \x20   for v in [None, True, 1, -1, 2**70, 10**5000, 1.5, -0.0, float('inf'), 'a\\ud800\\n', b'x', [1, (2, {3})],\n\
            \x20             {'a': 1, 2: [3]}, {(1, 2): None}, frozenset([1]), range(3), 1j, Decimal('1.10'), Fraction(1, 3), ...]:\n\
            \x20       w = f(v)\n\
            \x20       assert (w == v and type(w) is type(v)) or v is ..., v\n\
            \x20   assert math.isnan(f(float('nan')))\n\
            \x20   assert str(f(-0.0)) == '-0.0' and f(True) is True\n\
            \x20   assert f(a := [1]) == a and f(v=1) == 1\n";
        let outcome = run_with(&sandbox, "def f(v): return v", test, 10.0);
        assert_eq!(outcome.verdict, Verdict::Passed, "{}", outcome.output);
        let test = "def check(f):\n    assert list(f(3)) == [0, 1, 4] and f(3) != [0, 1, 4]\n    try: f(-1)\n    except ValueError: return\n    assert False";
        let source = "def f(n):\n    if n < 0: raise ValueError\n    return (x * x for x in range(n))";
        assert_eq!(run_with(&sandbox, source, test, 10.0).verdict, Verdict::Passed);
    }

    #[test]
    fn a_fork_bomb_and_a_thread_bomb_go_off_inside() {
        each_set(|name, sandbox| {
            let fork = "import os\ndef f():\n    for _ in range(100000):\n        try: os.fork()\n        except OSError: pass\n    return 'harm'";
            let begun = Instant::now();
            let outcome = run(sandbox, fork, 2.0);
            assert!(!outcome.verdict.passed(), "`{name}`");
            assert!(begun.elapsed() < Duration::from_secs(30), "`{name}`");
            let threads = attempt(
                "import threading\nthreading.stack_size(1 << 15)\nfor _ in range(5000):\n    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
            );
            let verdict = run(sandbox, &threads, 10.0).verdict;
            // Where root is not nobody, the kernel counts no threads; they end with the program.
            let counted = sandbox.protection().nobody || !is_root();
            assert!(verdict.passed() || !counted, "`{name}`: {verdict}");
            if !counted {
                note(&format!("`{name}`: threads are not counted for root, only their memory is"));
            }
        });
    }

    /// Processes that we started and that still run.
    fn ours_running() -> usize {
        let own = std::process::id().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let statuses = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        // By a word that only our hostile programs carry.
        statuses.filter(|line| line.contains(&format!("sandboxed-by-{own}"))).count()
    }

    pub(super) fn is_root() -> bool {
        std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t")
    }

    /// Ways to end one process, or to cut its processor time.
    fn signals(pid: u32) -> Vec<String> {
        vec![
            format!("os.kill({pid}, signal.SIGKILL)"),
            format!("signal.pidfd_send_signal(os.pidfd_open({pid}), 9)"),
            // A pipe that sends its owner a signal of choice.
            format!(
                "import fcntl\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {pid})\nfcntl.fcntl(r, 10, 9)\nfcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')"
            ),
            format!("import resource\nresource.prlimit({pid}, resource.RLIMIT_CPU, (9, 9))"),
        ]
    }

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn no_signal_reaches_another_process() {
        let own = std::process::id();
        let mut other = sleeper();
        let pid = other.id();
        each_set(|name, sandbox| {
            // First the one that may die: a sandbox with a hole stops here, before it hits all.
            for body in signals(pid) {
                assert_harmless(name, sandbox, &body);
            }
            assert_eq!(other.try_wait().unwrap(), None, "`{name}`");
            for body in signals(own) {
                assert_harmless(name, sandbox, &body);
            }
            assert_harmless(name, sandbox, &format!("os.killpg({own}, signal.SIGKILL)"));
            // The first process of a namespace is asked in vain.
            assert_harmless(
                name,
                sandbox,
                "parent = os.getppid()\nos.kill(parent or -1, signal.SIGKILL)\ntime.sleep(0.1)\nif parent and os.getppid() == parent: raise OSError",
            );
            // To all: nobody is there, or it is refused.
            assert_harmless(name, sandbox, "os.kill(-1, signal.SIGKILL)");
            assert_eq!(other.try_wait().unwrap(), None, "`{name}`");
        });
        other.kill().unwrap();
        other.wait().unwrap();
    }

    /// What hostile programs look for in our memory.
    static MARK: [u8; 8] = *b"our-mark";

    /// Ways to read or hold our own process.
    fn memory_of_ours() -> Vec<String> {
        let (own, at) = (std::process::id(), (&raw const MARK).addr());
        // Every argument as wide as a register: of a narrower one the upper half is left to chance.
        let call = |number: i64, arguments: &str| {
            format!(
                "import ctypes\nlong = ctypes.c_long\nmark = ctypes.create_string_buffer(8)\nlocal = (long * 2)(ctypes.addressof(mark), 8)\nremote = (long * 2)({at}, 8)\nat = lambda array: long(ctypes.addressof(array))\nlibc = ctypes.CDLL(None, use_errno=True)\nif libc.syscall(long({number}), {arguments}) < 0: raise OSError(ctypes.get_errno())"
            )
        };
        let (read, trace) = if cfg!(target_arch = "x86_64") { (310, 101) } else { (270, 117) };
        let wide =
            |numbers: &[u64]| numbers.iter().map(|n| format!("long({n})")).collect::<Vec<_>>().join(", ");
        let own_wide = u64::from(own);
        vec![
            call(read, &format!("long({own}), at(local), long(1), at(remote), long(1), long(0)"))
                + "\nassert mark.raw == b'our-mark'",
            // `PTRACE_SEIZE`, which does not stop us.
            call(trace, &wide(&[0x4206, own_wide, 0, 0])),
            format!(
                "with open('/proc/{own}/mem', 'rb', 0) as memory:\n    memory.seek({at})\n    assert memory.read(8) == b'our-mark'"
            ),
            format!("assert open('/proc/{own}/environ', 'rb').read(1)"),
        ]
    }

    #[test]
    fn no_memory_of_another_process_is_read() {
        each_set(|name, sandbox| {
            let n_hidden = if sandbox.protection().hides_files() { usize::MAX } else { 2 };
            for body in memory_of_ours().iter().take(n_hidden) {
                assert_harmless(name, sandbox, body);
            }
            if n_hidden == 2 {
                note(&format!("`{name}`: memory of this user's processes can be read, as its line says"));
            }
            assert_harmless(name, sandbox, &format!("open('/proc/{}/mem', 'r+b')", std::process::id()));
        });
    }

    /// Whatever else can be read, the judge and the tests it holds cannot.
    #[test]
    fn the_judge_is_out_of_sight() {
        // One of another run may just be coming up: what counts is what can still be read a while later.
        let body = "def tests_of(pid):\n    try:\n        status = open(f'/proc/{pid}/status').read()\n        if len(status.split('NSpid:')[1].split(chr(10))[0].split()) > 1: return False\n        if b'runs the tests' not in open(f'/proc/{pid}/cmdline', 'rb').read(): return False\n        open(f'/proc/{pid}/mem', 'rb').close()\n        return True\n    except (OSError, IndexError): return False\nseen = [pid for pid in os.listdir('/proc') if pid.isdigit() and tests_of(pid)]\ntime.sleep(2)\nif not any(map(tests_of, seen)): raise OSError";
        each_set(|name, sandbox| assert_harmless(name, sandbox, body));
    }

    /// The same attempts by Python alone: one that fails there as well would prove nothing above.
    #[test]
    fn the_attempts_do_harm_where_nothing_protects() {
        let harm = |body: &str| {
            let script = format!("{}print(f())", attempt(body));
            let said = std::process::Command::new("python3").args(["-c", &script]).output();
            let Ok(said) = said else { return note("SKIPPED control: no Python") };
            let words = String::from_utf8_lossy(&said.stdout);
            assert_eq!(words.trim(), "harm", "{body}\n{}", String::from_utf8_lossy(&said.stderr));
        };
        for idx in 0..signals(0).len() {
            let mut other = sleeper();
            harm(&signals(other.id())[idx]);
            let _ = other.kill();
            other.wait().unwrap();
        }
        for body in memory_of_ours() {
            harm(&body);
        }
        for idx in 0..changes(Path::new("/")).len() {
            let secret = secret();
            harm(&changes(secret.path())[idx]);
        }
        let secret = secret();
        for body in looks(secret.path()) {
            harm(&body);
        }
        let ears = Ears::new();
        for body in ears.calls() {
            harm(&body);
        }
        assert!(ears.tcp.accept().is_ok() && ears.unix.accept().is_ok() && ears.udp.recv(&mut [0]).is_ok());
    }

    /// A folder of home with a file that all users may read and change.
    pub(super) fn secret() -> tempfile::TempDir {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
        let home = if home.is_dir() { home } else { std::env::temp_dir() };
        let secret = tempfile::Builder::new().prefix(".sandbox-test-").tempdir_in(&home).unwrap();
        std::fs::write(secret.path().join("key"), "secret").unwrap();
        open_to_all(secret.path());
        secret
    }

    /// Ways to change it.
    fn changes(folder: &Path) -> Vec<String> {
        let folder = folder.display();
        vec![
            format!("open('{folder}/new', 'w').write('x')"),
            format!("open('{folder}/key', 'a').write('x')"),
            format!("os.remove('{folder}/key')"),
            format!("os.rename('{folder}/key', '{folder}/moved')"),
            format!("os.mkdir('{folder}/folder')"),
            format!("os.chmod('{folder}/key', 0)"),
            format!("os.utime('{folder}/key')"),
            format!("os.truncate('{folder}/key', 0)"),
            format!("os.symlink('/', '{folder}/link')"),
            format!("os.link('{folder}/key', '{folder}/hard')"),
        ]
    }

    /// Ways to look at it.
    fn looks(folder: &Path) -> Vec<String> {
        let folder = folder.display();
        vec![
            format!("assert open('{folder}/key').read() == 'secret'"),
            format!("assert os.listdir('{folder}') == ['key']"),
            "open('/etc/passwd').read()".to_owned(),
            "os.listdir('/home')".to_owned(),
        ]
    }

    #[test]
    fn home_is_neither_read_nor_written() {
        let secret = secret();
        each_set(|name, sandbox| {
            for body in changes(secret.path()) {
                assert_harmless(name, sandbox, &body);
            }
            for body in [
                "open('/etc/sandbox-test', 'w')",
                "open('/usr/lib/sandbox-test', 'w')",
                "open(os.path.join(os.path.dirname(os.__file__), 'sandbox-test.py'), 'w')",
                "open('/proc/sys/kernel/core_pattern', 'w')",
                "os.chmod('/dev/null', 0)",
                // `MS_REMOUNT | MS_BIND`: what is read-only is not made writable.
                "import ctypes\nif ctypes.CDLL(None).mount(None, b'/usr/lib', None, ctypes.c_ulong(0x1020), None): raise OSError",
            ] {
                assert_harmless(name, sandbox, body);
            }
            assert_eq!(std::fs::read_to_string(secret.path().join("key")).unwrap(), "secret", "`{name}`");
            assert_eq!(std::fs::read_dir(secret.path()).unwrap().count(), 1, "`{name}`");
            if sandbox.protection().hides_files() {
                for body in looks(secret.path()) {
                    assert_harmless(name, sandbox, &body);
                }
            } else {
                note(&format!("`{name}`: home can be read, as its line says"));
            }
        });
    }

    /// For all users, so that what fails does not fail for the user's name.
    fn open_to_all(folder: &Path) {
        open_to_all_as(folder, &["key"]);
    }

    pub(super) fn open_to_all_as(folder: &Path, names: &[&str]) {
        use std::os::unix::fs::PermissionsExt;
        for path in names.iter().map(|name| folder.join(name)).chain([folder.to_owned()]) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
    }

    #[test]
    fn the_scratch_folder_is_empty_small_and_gone_afterwards() {
        each_set(|name, sandbox| {
            if !sandbox.protection().namespaces {
                return assert_harmless(name, sandbox, "open('file', 'w')");
            }
            let mark = "import os, tempfile\ndef f():\n    assert os.listdir('.') == [], os.listdir('.')\n    open('left', 'w').write('x')\n    with tempfile.TemporaryFile() as t: t.write(b'x')\n    return 'harmless'";
            for _ in 0..2 {
                let outcome = run(sandbox, mark, 10.0);
                assert_eq!(outcome.verdict, Verdict::Passed, "`{name}`");
            }
            assert_harmless(
                name,
                sandbox,
                "for i in range(1000):\n    open(str(i), 'wb').write(bytes(1 << 20))",
            );
            assert_harmless(name, sandbox, "for i in range(100000):\n    open(str(i), 'wb')");
            assert_harmless(
                name,
                sandbox,
                "with open('long', 'wb') as long:\n    for i in range(1000):\n        long.write(bytes(1 << 20))",
            );
        });
    }

    /// Servers on this machine.
    struct Ears {
        tcp: TcpListener,
        udp: std::net::UdpSocket,
        unix: std::os::unix::net::UnixListener,
        folder: tempfile::TempDir,
    }

    impl Ears {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let unix = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
            open_to_all_as(folder.path(), &["socket"]);
            tcp.set_nonblocking(true).unwrap();
            udp.set_nonblocking(true).unwrap();
            unix.set_nonblocking(true).unwrap();
            Self { tcp, udp, unix, folder }
        }

        /// Ways to reach each.
        fn calls(&self) -> [String; 3] {
            let path = self.folder.path().join("socket");
            let (tcp, udp) = (self.tcp.local_addr().unwrap().port(), self.udp.local_addr().unwrap().port());
            [
                format!("import socket\nsocket.create_connection(('127.0.0.1', {tcp}), 2)"),
                format!("import socket\nsocket.socket(socket.AF_UNIX).connect('{}')", path.display()),
                format!(
                    "import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {udp}))"
                ),
            ]
        }
    }

    #[test]
    fn a_server_on_this_machine_is_not_reached() {
        let ears = Ears::new();
        each_set(|name, sandbox| {
            let [tcp, unix, udp] = ears.calls();
            assert_harmless(name, sandbox, &tcp);
            assert_harmless(name, sandbox, &unix);
            // Sending a packet may succeed, but none may arrive.
            run(sandbox, &attempt(&udp), 10.0);
            assert!(ears.tcp.accept().is_err() && ears.unix.accept().is_err(), "`{name}`");
            assert!(ears.udp.recv(&mut [0]).is_err(), "`{name}`");
        });
    }

    #[test]
    fn a_memory_hog_meets_its_limit() {
        each_set(|name, sandbox| {
            assert_harmless(name, sandbox, "hog = []\nwhile True: hog.append(bytearray(1 << 26))");
            let text = run(sandbox, "def f(): return 'a' * (1 << 32)", 10.0).verdict;
            assert_eq!(text, Verdict::Failed { message: "MemoryError".to_owned() }, "`{name}`");
            // The judge is no easier to fill than the program.
            let many = "def f(): return [0] * (1 << 24)";
            let verdict = run(sandbox, many, 5.0).verdict;
            assert!(
                !verdict.passed() && !matches!(verdict, Verdict::NotStarted { .. }),
                "`{name}`: {verdict}"
            );
            let deep = "def f():\n    x = []\n    for _ in range(100000): x = [x]\n    return x";
            assert!(matches!(run(sandbox, deep, 10.0).verdict, Verdict::Failed { .. }), "`{name}`");
        });
    }

    #[test]
    fn endless_output_is_cut() {
        each_set(|name, sandbox| {
            let outcome =
                run(sandbox, "def f():\n    print('begin')\n    while True: print('x' * 10000)", 1.0);
            assert!(matches!(outcome.verdict, Verdict::TimedOut { .. }), "`{name}`: {}", outcome.verdict);
            assert!(outcome.output.starts_with("begin\n") && outcome.output.len() <= 64 << 10, "`{name}`");
            assert!(outcome.output_dropped_bytes > 0, "`{name}`");
            // The same on the way to the judge: ended by the clock or by a limit.
            let outcome = run(sandbox, "import os\ndef f():\n    while True: os.write(4, b'x' * 10000)", 3.0);
            assert!(!outcome.verdict.passed(), "`{name}`");
        });
    }

    #[test]
    fn time_runs_out() {
        each_set(|name, sandbox| {
            for source in [
                "def f():\n    while True: pass",
                "import time\ndef f(): time.sleep(100)",
                "while True: pass",
            ] {
                let begun = Instant::now();
                let verdict = run(sandbox, source, 1.0).verdict;
                assert_eq!(verdict, Verdict::TimedOut { after: Duration::from_secs(1) }, "`{name}`");
                assert!(begun.elapsed() < Duration::from_secs(30), "`{name}`");
            }
        });
        let Some(sandbox) =
            open("processor time", Options { cpu: Some(Duration::from_secs(1)), ..Options::default() })
        else {
            return;
        };
        let verdict = run(
            &sandbox,
            "import signal\nfor s in (24, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
            60.0,
        )
        .verdict;
        assert_eq!(verdict, Verdict::Killed { by: "used 1 s of processor time".to_owned() });
    }

    #[test]
    fn what_a_crash_leaves_is_named() {
        each_set(|name, sandbox| {
            let verdict = run(sandbox, "import ctypes\ndef f(): ctypes.string_at(0)", 10.0).verdict;
            assert_eq!(verdict, Verdict::Killed { by: "SIGSEGV".to_owned() }, "`{name}`");
        });
    }

    #[test]
    fn nothing_lives_on() {
        let own = std::process::id();
        let source = format!(
            "import os, time, sys\ndef f():\n    for _ in range(2):\n        if os.fork() == 0:\n            os.setsid()\n            if os.fork(): os._exit(0)\n            for fd in range(64):\n                try: os.close(fd)\n                except OSError: pass\n            os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(300)', 'sandboxed-by-{own}'])\n    time.sleep(0.5)\n    return 'harmless'"
        );
        each_set(|name, sandbox| {
            let outcome = run(sandbox, &source, 10.0);
            // Either no process was allowed, or they lived until the verdict.
            let refused = matches!(&outcome.verdict, Verdict::Failed { message } if message.starts_with("PermissionError"));
            assert!(refused || outcome.verdict.passed(), "`{name}`: {}", outcome.verdict);
            assert_eq!(ours_running(), 0, "`{name}`");
        });
    }

    #[test]
    fn the_environment_is_empty() {
        each_set(|name, sandbox| {
            let source = "import os\ndef f(): return [dict(os.environ), input]\n";
            let source = format!(
                "{source}def f():\n    assert not os.environ, os.environ\n    import ctypes\n    env = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')\n    seen = []\n    while env[len(seen)]: seen.append(env[len(seen)])\n    assert all(s.split(b'=')[0] in (b'PYTHONHASHSEED', b'LC_CTYPE') for s in seen), seen\n    try: input()\n    except EOFError: return 'harmless'"
            );
            let outcome = run(sandbox, &source, 10.0);
            assert_eq!(outcome.verdict, Verdict::Passed, "`{name}`");
        });
    }

    #[test]
    fn no_file_of_ours_is_inherited() {
        let mut file = tempfile::tempfile().unwrap();
        each_set(|name, sandbox| {
            let source = "import os\ndef f():\n    seen = []\n    for fd in range(0, 1024):\n        try: os.fstat(fd)\n        except OSError: continue\n        seen.append(fd)\n    assert set(seen) <= {0, 1, 2, 3, 4, 5}, seen\n    return 'harmless'";
            let outcome = run(sandbox, source, 10.0);
            assert_eq!(outcome.verdict, Verdict::Passed, "`{name}`");
        });
        file.read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn threads_run_programs_side_by_side() {
        let Some(sandbox) = open("all", Options::default()) else { return };
        std::thread::scope(|scope| {
            for idx in 0..8 {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    for _ in 0..5 {
                        let right = format!("def f(): return 'harmless' if {idx} < 4 else 'harm'");
                        assert_eq!(run(sandbox, &right, 20.0).verdict.passed(), idx < 4);
                    }
                });
            }
        });
    }

    #[test]
    fn every_canonical_solution_passes() {
        if shared_data().is_none() {
            return note("SKIPPED canonical solutions: FINETUNE_DATA is not set");
        }
        let problems = shared_lines(HUMAN_EVAL);
        assert_eq!(problems.len(), 164);
        let text = |problem: &'_ Value, key: &str| problem[key].as_str().unwrap().to_owned();
        let texts: Vec<[String; 4]> = problems
            .iter()
            .map(|problem| {
                let prompt = text(problem, "prompt");
                let source = format!("{prompt}{}", text(problem, "canonical_solution"));
                [source, prompt, text(problem, "test"), text(problem, "entry_point")]
            })
            .collect();
        let programs: Vec<_> = texts
            .iter()
            .map(|[source, prelude, test, entry_point]| Program {
                source,
                prelude,
                test,
                entry_point,
                timeout: Duration::from_secs(20),
            })
            .collect();
        each_set(|name, sandbox| {
            let begun = Instant::now();
            let n_programs = sandbox.self_test(&programs).unwrap();
            note(&format!("`{name}`: {n_programs} known verdicts in {:.1} s", begun.elapsed().as_secs_f64()));
        });
    }
}
