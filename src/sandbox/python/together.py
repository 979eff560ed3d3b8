# One process for a program and its tests, where the two cannot be kept apart. A program that knows this file can forge
# its verdict here; what is done below makes that hard for one that does not.

# What is looked up from here on, and by the tests, is what Python had before the program ran.
__builtins__ = dict(vars(builtins))

# Methods that a class may have of its own. The others compare, compute, or pass for something else.
HARMLESS = set(dir(object)) - set("__eq__ __ne__ __lt__ __le__ __gt__ __ge__ __getattribute__ __class__".split())
HARMLESS |= set(
    "__dict__ __weakref__ __slots__ __module__ __qualname__ __annotations__ __annotations_cache__ __annotate__"
    " __annotate_func__ __firstlineno__ __static_attributes__ __type_params__ __parameters__ __orig_bases__"
    " __class_getitem__ __match_args__ __post_init__ __dataclass_fields__ __dataclass_params__ __abstractmethods__"
    " __getnewargs__".split()
)
CONTAINERS = (list, tuple, set, frozenset, collections.deque, *map(type, ({}.keys(), {}.values(), {}.items())))
HEAP = 1 << 9  # `Py_TPFLAGS_HEAPTYPE`: made while Python runs.
# What looks through memory or at callers: the word for a pass lies in this process.
PRYING = set(
    "gc.get_objects gc.get_referrers gc.get_referents sys._current_frames sys._current_exceptions sys.settrace"
    " sys.setprofile".split()
)


def watch(folders, getframe=sys._getframe):
    busy = []

    def hook(event, about):
        pries = event in PRYING or event == "object.__getattr__" and about[1] in ("tb_frame", "gi_frame", "cr_frame")
        if event == "sys._getframe" and not busy:
            busy.append(True)
            caller = getframe(1).f_code.co_filename
            busy.clear()
            # Named tuples and their like ask for their caller's name.
            pries = not caller.startswith(folders)
        if pries:
            raise RuntimeError(f"{event} is not allowed beside tests")

    sys.addaudithook(hook)


def found_in_its_module(kind):
    module = module_of(kind)
    held = vars(sys.modules[module]).get(kind.__qualname__) if module in sys.modules else None
    return held is kind and module not in ("builtins", "__main__")


def is_same(one, other):
    # Line numbers apart: an answer may repeat the prompt.
    if not hasattr(one, "co_code") or not hasattr(other, "co_code"):
        return one == other and type(one) is type(other)
    likes = [getattr(one, key) == getattr(other, key) for key in ("co_code", "co_names", "co_varnames", "co_freevars")]
    consts = [*itertools.zip_longest(one.co_consts, other.co_consts, fillvalue=Opaque)]
    return all(likes) and all(is_same(a, b) for a, b in consts)


def is_fair_class(kind, classes):
    # Python's own types, and classes that neither compare nor compute in a way that the prompt does not give.
    for one in type.mro(kind):
        if not one.__flags__ & HEAP or found_in_its_module(one):
            continue
        given = vars(classes.get(one.__name__, object))
        for name, method in vars(one).items():
            if name[:2] == "__" and name not in HARMLESS and method is not None:
                code, wanted = getattr(method, "__code__", None), getattr(given.get(name), "__code__", None)
                if code is None or not is_same(code, wanted):
                    return False
    return True


def is_fair(value, classes):
    todo, seen = [value], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        meta, kind = type(type(value)), type(value)
        if kind is Candidate:
            continue
        if meta is not type and meta.__flags__ & HEAP and not found_in_its_module(meta):
            return False
        if not is_fair_class(kind, classes):
            return False
        if isinstance(value, dict):
            todo += [*dict.keys(value), *dict.values(value)]
        elif isinstance(value, CONTAINERS):
            todo += [*value]
        todo += getattr(value, "__dict__", {}).values() if kind.__flags__ & HEAP else ()
    return True


class Candidate:
    """The program's function as the tests may see it."""

    def __init__(self, function, classes):
        self.function, self.classes, self.foul = function, classes, False

    def __call__(self, *args, **kwargs):
        # Tests may have odd classes of their own.
        was_fair = is_fair((args, kwargs), self.classes)
        try:
            value = self.function(*args, **kwargs)
        finally:
            self.foul |= was_fair and not is_fair((args, kwargs), self.classes)
        return self.seen(value)

    def seen(self, value):
        if hasattr(value, "__next__") and module_of(type(value)) in ("builtins", "itertools"):
            return self.each(value)
        if type(value).__name__ == "function":
            return Candidate(value, self.classes)
        return value if is_fair(value, self.classes) else Opaque()

    def each(self, values):
        for value in values:
            yield self.seen(value)


def main():
    job, verdict = json.load(open_in(3)), open_out(4)
    nonce, write, leave = (job.pop("nonce") + "\n").encode(), os.write, os._exit
    settle_in(job)
    # `import __main__` finds nothing of this.
    sys.modules["__main__"] = type(sys)("__main__")
    classes = classes_of(prelude_of(job["prelude"]))
    watch(tuple([*job["path"], "<frozen "]))
    line_out(verdict, "started")
    result = None
    try:
        namespace = {}
        exec(compile(job["source"], "<program>", "exec"), namespace)
        candidate = Candidate(namespace[job["entry_point"]], classes)
        given = {name: kind for name, kind in classes.items() if not is_fair_class(namespace.get(name, kind), classes)}
        namespace = {**namespace, **given, "__builtins__": dict(__builtins__), job["entry_point"]: candidate}
        exec(compile(job["test"], "<test>", "exec"), namespace)
        namespace["check"](candidate)
        if candidate.foul:
            result = {"failed": "an argument was given an object that compares in a way of its own"}
    except BaseException as error:
        result = {"failed": last_line(error)}
    try:
        sys.stdout.flush()
    except BaseException:
        pass
    if result is None:
        write(4, nonce)
    else:
        line_out(verdict, result)
    leave(0)


main()
