# What the judge and the program tell each other: plain data, one JSON text a line, nothing else.
# A value of a type that is not plain arrives as an object that equals nothing.
import builtins, collections, itertools, json, os, sys

LONGEST = 1 << 20  # Items of an iterator, so that an endless one ends.
BYTES = 1 << 26  # Of one line.
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)


class Opaque:
    """Stands for what is not plain data."""


def is_a(value, module, name):
    # Without loading a module that nobody asked for.
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))


def pack(value):
    if value is None or isinstance(value, (bool, float)):
        return value if value is None or isinstance(value, bool) else float(value)
    if isinstance(value, int):
        value = int(value)
        return value if abs(value) < 1 << 63 else ["i", hex(value)]
    if isinstance(value, str):
        return str.__str__(value)
    for tag, kind in (("l", list), ("t", tuple), ("s", set), ("f", frozenset), ("q", collections.deque)):
        if isinstance(value, kind):
            return [tag, *map(pack, value)]
    if isinstance(value, dict):
        return ["d", *([pack(key), pack(item)] for key, item in value.items())]
    if isinstance(value, (bytes, bytearray)):
        return ["b" if isinstance(value, bytes) else "B", bytes(value).hex()]
    if isinstance(value, range):
        return ["r", *map(pack, (value.start, value.stop, value.step))]
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if is_a(value, "decimal", "Decimal"):
        return ["m", str(value)]
    if is_a(value, "fractions", "Fraction"):
        return ["n", pack(value.numerator), pack(value.denominator)]
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return pack(value.item())
    if hasattr(value, "__iter__") and not isinstance(value, type):
        # Something to go through, equal to no list. What knows its length keeps it, as a deque does.
        items = [pack(item) for item in itertools.islice(value, LONGEST)]
        return ["q" if hasattr(value, "__len__") else "g", *items]
    return ["o"]


def unpack(value):
    if not isinstance(value, list):
        return value
    tag, *rest = value
    plain = {"l": list, "t": tuple, "s": set, "f": frozenset, "q": collections.deque, "g": iter}
    if tag in plain:
        return plain[tag]([unpack(item) for item in rest])
    if tag == "d":
        return {unpack(key): unpack(item) for key, item in rest}
    if tag in "bB":
        return (bytes if tag == "b" else bytearray).fromhex(rest[0])
    if tag == "i":
        return int(rest[0], 16)
    if tag == "r":
        return range(*map(unpack, rest))
    if tag == "c":
        return complex(*rest)
    if tag == "m":
        return __import__("decimal").Decimal(rest[0])
    if tag == "n":
        return __import__("fractions").Fraction(*map(unpack, rest))
    return Opaque()


def last_line(error):
    # As the last line of a traceback has it; the module for that takes long to load.
    try:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
        text = str(error.msg if isinstance(error, SyntaxError) else error)
        return (f"{name}: {text}" if text else name).strip()[:400]
    except BaseException:
        return "an exception that cannot be printed"


def line_in(file):
    line = file.readline(BYTES)
    if not line.endswith("\n"):
        raise EOFError
    return json.loads(line)


def line_out(file, value):
    file.write(json.dumps(value) + "\n")
    file.flush()


def open_in(fd):
    return os.fdopen(fd, "r", encoding="utf-8", errors="replace", newline="\n")


def open_out(fd):
    return os.fdopen(fd, "w", encoding="utf-8", newline="\n")
