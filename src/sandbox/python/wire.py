# What the judge and the program tell each other: plain data, one JSON text a line, nothing else.
#
# Whatever can change in place (lists, dicts, objects of the prompt's classes) travels by number, with its contents in
# a table beside: after a call the other side tells which contents are new, so that a change of an argument arrives in
# the very object that was given, and what is the same object there is the same object here. A function stays where it
# is and is called across. A value that is none of this arrives as an object that equals nothing.
import builtins, collections, itertools, json, os, sys

LONGEST = 1 << 20  # Items of an iterator, so that an endless one ends.
LINE = 1 << 26  # Characters of one line, where it is written and where it is read.
MESSAGE = 400  # Characters of what is said about a failure, where it leaves and where it is heard.
MUTABLE = (list, dict, set, collections.deque, bytearray)
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)


class Opaque:
    """Stands for what cannot be carried."""


class Raised(Exception):
    """Stands for an exception of a class that is not known here."""


def is_a(value, module, name):
    # Without loading a module that nobody asked for.
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))


def text_of(value):
    # Surrogates as they are: two escaped ones side by side would be read as one character.
    return json.dumps(value, ensure_ascii=False)


class Peer:
    """One end of the line: calls the other, and is called."""

    def __init__(self, inlet, outlet):
        self.inlet, self.outlet = inlet, outlet
        self.classes = {}  # Of the prompt, by name: both sides have them.
        self.own = []  # What stays here and the other knows by number, the candidate first.
        self.numbers = {}
        self.far = {}  # Stand-ins for what stays there, by its number.
        self.there = {}  # The numbers of these stand-ins.

    def call(self, number, args, kwargs):
        exchange = Exchange(self)
        self.send({"call": number, **exchange.tell((args, kwargs))})
        return self.reply_to(exchange)

    def reply_to(self, exchange):
        while True:
            message = self.receive()
            if "call" not in message:
                break
            self.serve(message)
        value = self.heard(exchange, message)
        if "raised" not in message:
            return value
        raise value

    def serve(self, message):
        exchange = Exchange(self)
        args, kwargs = self.heard(exchange, message)
        try:
            function = self.own[message["call"]]
            reply = exchange.tell(function(*args, **kwargs))
        except self.caught as error:
            reply = exchange.tell_raised(error)
        try:
            self.send(reply)
        except OverflowError as error:
            self.send({**raised(error), **NOTHING})

    def send(self, message):
        line_out(self.outlet, message)

    def receive(self):
        return line_in(self.inlet)

    def heard(self, exchange, message):
        return exchange.hear(message)

    def keep(self, value):
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.own)
            self.own.append(value)
        return self.numbers[id(value)]

    def stand_in(self, number, is_function):
        if number not in self.far:

            def function(*args, **kwargs):
                return self.call(number, args, kwargs)

            self.far[number] = function if is_function else Opaque()
            self.there[id(self.far[number])] = number
        return self.far[number]

    def error(self, names, line, args, attributes):
        line = cut(str(line))
        # The nearest class that is known here, as `except` would have it.
        for module, name in names:
            known = self.classes.get(name) if module == "builtins" else None
            known = known or getattr(sys.modules.get(module), name, None)
            if module != "__main__" and isinstance(known, type) and issubclass(known, Exception):
                error = known.__new__(known, *args)
                error.args = args
                vars(error).update(attributes)
                break
        else:
            error = Raised(line)
        error.program_line = line
        return error


def module_of(kind):
    # A class statement without `__name__` says `builtins`; a call of `type` says nothing.
    return getattr(kind, "__module__", "builtins")


def names_of_classes(error):
    return [[module_of(kind), kind.__qualname__] for kind in type.mro(type(error))]


NOTHING = {"value": None, "new": [], "changed": []}


def raised(error):
    return {"raised": names_of_classes(error), "line": last_line(error)}


def cut(text):
    if len(text) <= MESSAGE:
        return text
    note = f"… (cut, {len(text)} characters)"
    return text[: MESSAGE - len(note)] + note


class Exchange:
    """A call and its reply. Either side holds its own copy of each numbered object."""

    def __init__(self, peer):
        self.peer = peer
        self.objects = []
        self.numbers = {}
        self.told = []  # The contents of each as the other side has them.

    def tell(self, value):
        n_known = len(self.objects)
        root = self.pack(value)
        changed = []
        for number in range(n_known):
            contents = self.contents(self.objects[number])
            if not same(contents, self.told[number]):
                changed.append([number, contents])
        while len(self.told) < len(self.objects):
            self.told.append(self.contents(self.objects[len(self.told)]))
        return {"value": root, "new": self.told[n_known:], "changed": changed}

    def tell_raised(self, error):
        said = raised(error)
        try:
            told = self.tell((error.args, vars(error)))
        except BaseException:
            told = NOTHING
        return {**said, **told}

    def hear(self, message):
        n_known = len(self.objects)
        for contents in message["new"]:
            self.number(self.shell(contents))
        known = list(enumerate(message["new"], n_known)) + message["changed"]
        self.told += message["new"]
        # Sets and dicts last: what they hold is looked up by its own contents.
        for late in (False, True):
            for number, contents in known:
                if (contents[0] in "sd") == late:
                    self.fill(self.objects[number], contents)
        if "raised" not in message:
            return self.unpack(message["value"])
        about = self.unpack(message["value"]) if message["value"] else ((), {})
        return self.peer.error(message["raised"], message["line"], *about)

    def number(self, value):
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self.numbers[id(value)]

    def pack(self, value):
        if value is None or isinstance(value, (bool, float)):
            return value if value is None or isinstance(value, bool) else float(value)
        kind = type(value)
        ours = self.peer.classes and self.peer.classes.get(kind.__name__) is kind
        if ours and is_a(value, "enum", "Enum"):
            return ["e", kind.__name__, value.name]
        if isinstance(value, int):
            value = int(value)
            return value if abs(value) < 1 << 63 else ["i", hex(value)]
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, MUTABLE):
            return ["@", self.number(value)]
        if isinstance(value, tuple):
            items = map(self.pack, value)
            return ["N", kind.__name__, *items] if ours else ["t", *items]
        if isinstance(value, frozenset):
            return ["f", *map(self.pack, value)]
        if isinstance(value, bytes):
            return ["b", value.hex()]
        if isinstance(value, range):
            return ["r", *map(self.pack, (value.start, value.stop, value.step))]
        if isinstance(value, complex):
            return ["c", value.real, value.imag]
        if is_a(value, "decimal", "Decimal"):
            return ["m", str(value)]
        if is_a(value, "fractions", "Fraction"):
            return ["n", self.pack(value.numerator), self.pack(value.denominator)]
        if isinstance(value, type):
            return self.pack_class(value)
        if isinstance(value, BaseException):
            return ["x", names_of_classes(value), last_line(value), *map(self.pack, (value.args, vars(value)))]
        if ours:
            return ["@", self.number(value)]
        return self.pack_other(value)

    def pack_class(self, value):
        name = value.__name__
        if getattr(builtins, name, None) is value or self.peer.classes.get(name) is value:
            return ["T", name]
        return ["O", self.peer.keep(value)]

    def pack_other(self, value):
        kind = type(value)
        if id(value) in self.peer.there:
            return ["H", self.peer.there[id(value)]]
        if module_of(kind) == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            return self.pack(value.item())
        if hasattr(value, "__iter__"):
            # Something to go through, equal to no list. What knows its length keeps it, as a deque does.
            items = [self.pack(item) for item in itertools.islice(value, LONGEST)]
            return ["q" if hasattr(value, "__len__") else "g", *items]
        return self.peer.pack_builtin(value) or ["F" if callable(value) else "O", self.peer.keep(value)]

    def contents(self, value):
        if isinstance(value, list):
            return ["l", *map(self.pack, value)]
        if isinstance(value, dict):
            return ["d", *([self.pack(key), self.pack(item)] for key, item in value.items())]
        if isinstance(value, set):
            return ["s", *map(self.pack, value)]
        if isinstance(value, collections.deque):
            return ["Q", value.maxlen, *map(self.pack, value)]
        if isinstance(value, bytearray):
            return ["B", bytes(value).hex()]
        return ["k", type(value).__name__, *([name, self.pack(item)] for name, item in state(value).items())]

    def shell(self, contents):
        tag = contents[0]
        if tag == "Q":
            return collections.deque(maxlen=contents[1])
        if tag == "k":
            return object.__new__(self.peer.classes[contents[1]])
        return {"l": list, "d": dict, "s": set, "B": bytearray}[tag]()

    def fill(self, value, contents):
        tag, *rest = contents
        if tag == "l" and isinstance(value, list):
            value[:] = [self.unpack(item) for item in rest]
        elif tag == "d" and isinstance(value, dict):
            items = [(self.unpack(key), self.unpack(item)) for key, item in rest]
            value.clear()
            for key, item in items:
                value[key] = item
        elif tag == "s" and isinstance(value, set):
            items = [self.unpack(item) for item in rest]
            value.clear()
            value.update(items)
        elif tag == "Q" and isinstance(value, collections.deque):
            items = [self.unpack(item) for item in rest[1:]]
            value.clear()
            value.extend(items)
        elif tag == "B" and isinstance(value, bytearray):
            value[:] = bytes.fromhex(rest[0])
        elif tag == "k" and type(value) is self.peer.classes[rest[0]]:
            now = {name: self.unpack(item) for name, item in rest[1:]}
            for name in state(value):
                if name not in now:
                    object.__delattr__(value, name)
            for name, item in now.items():
                object.__setattr__(value, name, item)
        else:
            raise TypeError("contents of another type")

    def unpack(self, value):
        if not isinstance(value, list):
            return value
        tag, *rest = value
        if tag == "@":
            return self.objects[rest[0]]
        plain = {"t": tuple, "f": frozenset, "q": collections.deque, "g": iter}
        if tag in plain:
            return plain[tag]([self.unpack(item) for item in rest])
        if tag == "N":
            return tuple.__new__(self.peer.classes[rest[0]], [self.unpack(item) for item in rest[1:]])
        if tag == "b":
            return bytes.fromhex(rest[0])
        if tag == "i":
            return int(rest[0], 16)
        if tag == "r":
            return range(*map(self.unpack, rest))
        if tag == "c":
            return complex(*rest)
        if tag == "m":
            return __import__("decimal").Decimal(rest[0])
        if tag == "n":
            return __import__("fractions").Fraction(*map(self.unpack, rest))
        if tag == "x":
            return self.peer.error(*rest[:2], *map(self.unpack, rest[2:]))
        if tag == "e":
            return self.peer.classes[rest[0]][rest[1]]
        if tag == "T":
            return self.peer.classes.get(rest[0]) or self.peer.builtin(rest[0])
        if tag in ("F", "O"):
            return self.peer.stand_in(rest[0], tag == "F")
        if tag == "H":
            return self.peer.own[rest[0]]
        raise TypeError("a value of an unknown kind")


def state(value):
    slots = (slot for kind in type(value).__mro__ for slot in names_of(kind.__dict__.get("__slots__", ())))
    held = {slot: getattr(value, slot) for slot in slots if slot != "__dict__" and hasattr(value, slot)}
    return {**held, **getattr(value, "__dict__", {})}


def names_of(slots):
    return (slots,) if isinstance(slots, str) else tuple(slots)


def same(a, b):
    # As texts: `True == 1` in Python. A set may be gone through in another order.
    if a[0] == b[0] == "s":
        a, b = sorted(map(text_of, a)), sorted(map(text_of, b))
    return text_of(a) == text_of(b)


def last_line(error):
    # As the last line of a traceback has it; the module for that takes long to load.
    try:
        kind = type(error)
        module = module_of(kind)
        name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
        text = str(error.msg if isinstance(error, SyntaxError) else error)
        line = cut((f"{name}: {text}" if text else name).strip())
        return line.encode("utf-8", "backslashreplace").decode()
    except BaseException:
        return "an exception that cannot be printed"


def line_in(file):
    line = file.readline(LINE)
    if not line.endswith("\n"):
        raise EOFError
    return json.loads(line)


def line_out(file, value):
    text = text_of(value)
    if len(text) >= LINE:
        raise OverflowError(f"{len(text)} characters between program and tests, fewer than {LINE} pass")
    file.write(text + "\n")
    file.flush()


def open_in(fd):
    return os.fdopen(fd, "r", encoding="utf-8", errors="surrogatepass", newline="\n")


def open_out(fd):
    return os.fdopen(fd, "w", encoding="utf-8", errors="surrogatepass", newline="\n")
