//! What crosses between a program and its tests, and what fails whether they are kept apart or not.

#[cfg(all(test, target_os = "linux"))] // Clippy lets tests unwrap by this mark.
mod values {
    use std::io::Write;
    use std::time::Duration;

    use finetune::sandbox::{Held, Options, Program, Sandbox, SandboxError, Verdict};

    /// A case: what it is about, the prompt up to the signature of `f`, the answer, the body of `check`.
    type Case = (&'static str, &'static str, &'static str, &'static str);

    const LIST_NODE: &str =
        "class N:\n    def __init__(self, v, nxt=None):\n        self.v, self.next = v, nxt\n\n";
    const WITH_EQ: &str =
        "class K:\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return self.v == o.v\n\n";

    /// What `exec` of prompt, answer and test in one Python lets pass, and so do we with the two apart.
    const CARRIED: &[Case] = &[
        (
            "a list sorted in place",
            "",
            "def f(a): a.sort()",
            "x = [3, 1, 2]\ncandidate(x)\nassert x == [1, 2, 3]",
        ),
        (
            "lists in a list keep who they are",
            "",
            "def f(m):\n    m.sort()\n    m[0].append(9)",
            "a, b = [2], [1]\nx = [a, b]\ncandidate(x)\nassert x[0] is b and x[1] is a and b == [1, 9] and a == [2]",
        ),
        (
            "every kind that changes",
            "",
            "def f(s, q, b, d):\n    s.add(1); q.append(3); b += b'x'; d.clear(); d['a'] = True",
            "from collections import deque\ns, q, b, d = set(), deque([1, 2], 2), bytearray(b'a'), {'a': 1}\ncandidate(s, q, b, d)\n\
             assert s == {1} and list(q) == [2, 3] and b == b'ax' and d['a'] is True",
        ),
        (
            "an ordered dict keeps its order",
            "",
            "def f(d): d['z'] = d.pop('a')",
            "from collections import OrderedDict\nd = OrderedDict(a=1, b=2)\ncandidate(d)\nassert list(d) == ['b', 'z']",
        ),
        (
            "changed, then raised",
            "",
            "def f(x):\n    x.append(1)\n    raise ValueError",
            "x = []\ntry: candidate(x)\nexcept ValueError: assert x == [1]\nelse: assert False",
        ),
        ("an argument returned", "", "def f(x): return x", "x = [1]\nassert candidate(x) is x"),
        ("a circle", "", "def f(x): x.append(x)", "x = [1]\ncandidate(x)\nassert x[1] is x"),
        ("one object twice", "", "def f(x): return [['x']] * 2", "r = candidate(1)\nassert r[0] is r[1]"),
        (
            "surrogates side by side are two characters",
            "",
            "def f(x): return x + chr(0xd83d) + chr(0xde00)",
            "assert candidate(chr(0xd83d) + chr(0xde00)) == (chr(0xd83d) + chr(0xde00)) * 2 and len(candidate('')) == 2",
        ),
        (
            "a list of the prompt's nodes, too long for recursion",
            LIST_NODE,
            "def f(h):\n    p = None\n    while h: h.next, p, h = p, h, h.next\n    return p",
            "h = None\nfor i in range(3000): h = N(i, h)\nr = candidate(h)\n\
             assert type(r) is N and r.v == 0 and r.next.v == 1 and h.next is None",
        ),
        (
            "the prompt's class with its own comparison and slots",
            "class K:\n    __slots__ = ('v', 'w')\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return self.v == o.v\n\n",
            "def f(k):\n    k.v += 1\n    k.w = 0\n    return K(k.v)",
            "k = K(1)\nassert candidate(k) == K(2) and k == K(2) and k.w == 0",
        ),
        (
            "enumerations and named tuples of the prompt",
            "from enum import Enum\nfrom typing import NamedTuple\nclass C(Enum):\n    A = 1\n    B = 2\n\n\
             class P(NamedTuple):\n    x: int\n    c: C\n\n",
            "def f(c): return P(3, C.B if c is C.A else C.A)",
            "assert candidate(C.A) == P(3, C.B) and candidate(C.B).c is C.A and candidate(C.A).x == 3",
        ),
        (
            "an exception below the wanted one",
            "",
            "def f(x):\n    class E(ValueError): pass\n    raise E('no')",
            "try: candidate(1)\nexcept ValueError as e: assert str(e) == 'no'\nelse: assert False",
        ),
        (
            "the prompt's exception with what it holds",
            "class E(Exception):\n    def __init__(self, code):\n        super().__init__(code)\n        self.code = code\n\n",
            "def f(n): raise E(n)",
            "try: candidate(4)\nexcept E as e: assert e.code == 4\nelse: assert False",
        ),
        (
            "an exception and its class as arguments",
            "",
            "def f(e): raise e",
            "for e in (KeyError('k'), KeyError):\n    try: candidate(e)\n    except KeyError as found: assert str(found) in (\"'k'\", '')\n    else: assert False",
        ),
        (
            "an exception of the library",
            "",
            "def f(x):\n    import json\n    json.loads(x)",
            "import json\ntry: candidate('{')\nexcept json.JSONDecodeError: return\nassert False",
        ),
        (
            "functions of the tests",
            "",
            "def f(g, *more): return [g(x) for x in more]",
            "assert candidate(lambda v: [v], 1, 2) == [[1], [2]]\nassert candidate(str, 1) == ['1'] and candidate(len, 'ab') == [2]",
        ),
        (
            "a function of the tests that changes what it gets",
            "",
            "def f(g):\n    x = [0]\n    g(x)\n    return x",
            "assert candidate(lambda x: x.append(7)) == [0, 7]",
        ),
        (
            "a function of the tests that raises",
            "",
            "def f(g):\n    try: g()\n    except ValueError as e: return str(e)",
            "def g(): raise ValueError('from the test')\nassert candidate(g) == 'from the test'",
        ),
        ("a function returned", "", "def f(n): return lambda x: x + n", "assert candidate(3)(4) == 7"),
        (
            "the candidate as its own argument",
            "",
            "def f(n, g): return 1 if n == 0 else n * g(n - 1, g)",
            "assert candidate(5, candidate) == 120",
        ),
        (
            "an object of the program's class, handed back",
            "",
            "class A: pass\ndef f(n=None, a=None):\n    if a: return a.n\n    a = A()\n    a.n = n\n    return a",
            "assert candidate(a=candidate(3)) == 3",
        ),
    ];

    /// Prompts that are no Python by themselves: what stands before the function is still there for the tests.
    const CUT_OFF: &[Case] = &[
        (
            "no body",
            "def g(x):\n    return x * 2\n\ndef f(n):\n",
            "    return g(n) + 1",
            "assert candidate(g(3)) == 13",
        ),
        (
            "an open description",
            "import math\ndef g(x):\n    return x\n\ndef f(n):\n    \"\"\"Adds",
            " one.\"\"\"\n    return n + 1",
            "assert candidate(g(3)) == 4 and math.pi > 3",
        ),
    ];

    const YES: &str = "class Y:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    def __bool__(self): return True\n\
        \x20   def __sub__(self, o): return self\n    def __lt__(self, o): return True\n    def __abs__(self): return self\n\
        \x20   def __iter__(self): yield 1\n    def __getattr__(self, name): return self\n    def __len__(self): return 1\n";

    /// Programs that mean to pass without an answer; `YES` stands before each.
    const HOSTILE: &[Case] = &[
        ("leaves", "", "import os\ndef f(x): os._exit(0)", "assert candidate(1) == 1"),
        ("leaves at once", "", "import os\nos._exit(0)", "assert candidate(1) == 1"),
        ("exits", "", "import sys\ndef f(x): sys.exit(0)", "assert candidate(1) == 1"),
        ("exits at once", "", "raise SystemExit", "assert candidate(1) == 1"),
        (
            "speaks at exit",
            "",
            "import atexit, os\natexit.register(lambda: [os.write(fd, b'{\"passed\": true}\\n') for fd in (4, 6)])\ndef f(x): return 2",
            "assert candidate(1) == 1",
        ),
        (
            "speaks on every file",
            "",
            "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'{\"passed\": true}\\n{\"value\": null}\\n')\n    except OSError: pass\ndef f(x): return 2",
            "assert candidate(1) == 1",
        ),
        (
            "speaks without an end",
            "",
            "import os\ndef f(x):\n    for _ in range(20000): os.write(4, b'x' * 10000)\n    return 2",
            "assert candidate(1) == 1",
        ),
        ("equals everything", "", "def f(x): return Y()", "assert candidate(1) == 1"),
        ("computes everything", "", "def f(x): return Y()", "assert abs(candidate(1) - 3) < 1e-6"),
        ("deep inside", "", "def f(x): return {1: ([Y()],)}", "assert candidate(1) == {1: ([2],)}"),
        ("one after the other", "", "def f(x): yield Y()", "assert list(candidate(1)) == [5]"),
        ("mapped", "", "def f(x): return map(lambda i: Y(), [1])", "assert list(candidate(1)) == [5]"),
        ("values of a dict", "", "def f(x): return {1: Y()}.values()", "assert list(candidate(1)) == [5]"),
        ("from a function", "", "def f(x): return lambda x: Y()", "assert candidate(1)(2) == 5"),
        ("in the argument", "", "def f(x): x[:] = [Y()]", "x = [3]\ncandidate(x)\nassert x == [4]"),
        (
            "as an attribute",
            LIST_NODE,
            "def f(x):\n    n = N(1)\n    n.v = Y()\n    return n",
            "assert candidate(1).v == 5",
        ),
        (
            "a text",
            "",
            "class S(str):\n    def __eq__(self, o): return True\n    __hash__ = str.__hash__\ndef f(x): return S('a')",
            "assert candidate(1) == 'b'",
        ),
        (
            "a list",
            "",
            "class L(list):\n    def __eq__(self, o): return True\ndef f(x): return L([1])",
            "assert candidate(1) == [2]",
        ),
        (
            "a class",
            "",
            "class M(type):\n    def __eq__(self, o): return True\nclass K(metaclass=M): pass\ndef f(x): return K",
            "assert candidate(1) == 3",
        ),
        (
            "the prompt's class made to agree",
            WITH_EQ,
            "class K:\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return True\ndef f(x): return K(1)",
            "assert candidate(1) == K(2)",
        ),
        (
            "other builtins",
            "",
            "import builtins\ndef f(x): return 2\nbuiltins.AssertionError = builtins.Exception = type('E', (BaseException,), {})\n\
             builtins.abs = builtins.len = lambda x: 0\nbuiltins.all = lambda x: True",
            "assert all([candidate(1) == 1]) and abs(candidate(1) - 1) < 1e-6",
        ),
        (
            "no `isinstance`",
            "",
            "import builtins\ndef f(x): return [Y()]\nbuiltins.isinstance = lambda *a: False",
            "assert candidate(1) == [5]",
        ),
        (
            "another `json`",
            "",
            "import sys\nsys.modules['json'].dumps = lambda value, **k: '{\"passed\": true}'\ndef f(x): return 2",
            "assert candidate(1) == 1",
        ),
        (
            "another `__main__`",
            "",
            "import __main__\n__main__.is_fair = lambda *a: True\ndef f(x): return Y()",
            "assert candidate(1) == 1",
        ),
        ("its own `check`", "", "def check(candidate): pass\ndef f(x): return 2", "assert candidate(1) == 1"),
        (
            "goes through memory",
            "",
            "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'check' in o: o['check'] = lambda c: None\n    return 2",
            "assert candidate(1) == 1",
        ),
        (
            "looks at who called",
            "",
            "import os, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for value in frame.f_locals.values():\n\
             \x20           if isinstance(value, bytes): os.write(4, value)\n        frame = frame.f_back\n    return 2",
            "assert candidate(1) == 1",
        ),
        (
            "looks at who called by an exception",
            "",
            "import os\ndef f(x):\n    try: 1 / 0\n    except ZeroDivisionError as e: frame = e.__traceback__.tb_frame\n    while frame:\n\
             \x20       for value in frame.f_locals.values():\n            if isinstance(value, bytes): os.write(4, value)\n\
             \x20       frame = frame.f_back\n    return 2",
            "assert candidate(1) == 1",
        ),
        (
            "traces",
            "",
            "import sys\ndef f(x):\n    sys.settrace(lambda *a: None)\n    return 2",
            "assert candidate(1) == 1",
        ),
        (
            "hands out `eval`",
            "",
            "def f(x): return eval if x else \"__import__('os')._exit(0)\"",
            "assert candidate(1)(candidate(0)) == 2",
        ),
    ];

    fn note(text: &str) {
        let mut stderr = std::io::stderr(); // Not `eprintln`, which the test harness keeps to itself.
        writeln!(stderr, "carried: {text}").unwrap();
    }

    fn sandbox() -> Option<Sandbox> {
        match Sandbox::open(&Options::default()) {
            Ok(sandbox) => Some(sandbox),
            Err(error @ (SandboxError::Unprotected { .. } | SandboxError::NoPython { .. })) => {
                note(&format!("SKIPPED: {error}"));
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn verdict(sandbox: &Sandbox, before: &str, (_, prompt, answer, body): &Case, held: Held) -> Verdict {
        let source = format!("{before}{prompt}{answer}\n");
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        let test = format!("def check(candidate):\n{body}");
        let timeout = Duration::from_secs(20);
        let program = Program { source: &source, prelude: prompt, test: &test, entry_point: "f", timeout };
        sandbox.run_held(&program, held).unwrap().verdict
    }

    const BOTH: [Held; 2] = [Held::Apart, Held::Together];

    #[test]
    fn what_one_python_lets_pass_passes_apart_and_together() {
        let Some(sandbox) = sandbox() else { return };
        for case in CARRIED.iter().chain(CUT_OFF) {
            for held in BOTH {
                assert_eq!(verdict(&sandbox, "", case, held), Verdict::Passed, "{}, {held:?}", case.0);
            }
        }
    }

    #[test]
    fn a_pass_without_an_answer_is_forged_neither_apart_nor_together() {
        let Some(sandbox) = sandbox() else { return };
        for case in HOSTILE {
            for held in BOTH {
                let found = verdict(&sandbox, YES, case, held);
                assert!(matches!(found, Verdict::Failed { .. }), "{}, {held:?}: {found}", case.0);
            }
        }
    }

    /// Why a verdict from one process is marked: who sets out to can still have it, here by the module that the tests
    /// compare with.
    #[test]
    fn beside_its_tests_a_program_can_forge_a_pass_and_apart_it_cannot() {
        let Some(sandbox) = sandbox() else { return };
        let case = (
            "another `isclose`",
            "",
            "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 2",
            "import math\nassert math.isclose(candidate(1), 1)",
        );
        assert_eq!(verdict(&sandbox, "", &case, Held::Together), Verdict::Passed);
        assert!(matches!(verdict(&sandbox, "", &case, Held::Apart), Verdict::Failed { .. }));
    }

    #[test]
    fn an_array_changed_in_place_needs_one_process() {
        let Some(sandbox) = sandbox() else { return };
        let case = (
            "an array",
            "import array\n",
            "def f(a): a[0] = 5",
            "a = array.array('i', [1])\ncandidate(a)\nassert a[0] == 5",
        );
        assert!(matches!(verdict(&sandbox, "", &case, Held::Apart), Verdict::Failed { .. }));
        assert_eq!(verdict(&sandbox, "", &case, Held::Together), Verdict::Passed);
        let endless = ("endless", "", "def f(a):\n    while True: pass", "candidate(1)");
        let source = format!("{}\n", endless.2);
        let program = Program {
            source: &source,
            prelude: "",
            test: "def check(candidate):\n    candidate(1)\n",
            entry_point: "f",
            timeout: Duration::from_secs(1),
        };
        let found = sandbox.run_held(&program, Held::Together).unwrap().verdict;
        assert_eq!(found, Verdict::TimedOut { after: Duration::from_secs(1) });
        let crash = ("a crash", "", "import ctypes\ndef f(a): ctypes.string_at(0)", "candidate(1)");
        let found = verdict(&sandbox, "", &crash, Held::Together);
        assert_eq!(found, Verdict::Killed { by: "SIGSEGV".to_owned() });
    }
}
