# The process that runs the tests. Nothing of the program under test is ever executed here: the candidate is a
# function that asks the other process, and what comes back is plain data.


class Raised(Exception):
    """The program raised something that is not an exception of Python's own."""


class Gone(BaseException):
    """The program ended, or says what no runner says. A test that catches it, by a bare `except`, changes nothing."""

    first = None

    def __init__(self, what):
        Gone.first = Gone.first or what


def candidate_of(answers, requests, name):
    def read():
        try:
            reply = line_in(answers)
            if "raised" not in reply:
                return unpack(reply["value"])
            known = getattr(builtins, str(reply["raised"]), None)
            line, text = str(reply["line"]), str(reply["text"])
        except Exception as error:
            raise Gone(last_line(error)) from None
        try:
            assert issubclass(known, Exception)
            error = known(text)
        except Exception:
            error = Raised(line)
        error.program_line = line
        raise error

    def candidate(*args, **kwargs):
        question = pack((args, kwargs))
        try:
            line_out(requests, question)
        except OSError as error:
            raise Gone(last_line(error)) from None
        return read()

    candidate.__name__ = candidate.__qualname__ = name
    return candidate, read


def main():
    answers, requests, verdict = open_in(3), open_out(4), open_out(6)
    job = json.load(open_in(5))
    sys.path[:] = job["path"]
    if job["hide"]:
        # `PR_SET_DUMPABLE`: the program, of the same user, could read the tests out of our memory through `/proc`.
        import ctypes

        if ctypes.CDLL(None).prctl(4, *map(ctypes.c_ulong, (0, 0, 0, 0))):
            raise OSError("the judge cannot hide")
    os.environ.clear()
    name = job["entry_point"]
    namespace = {}
    try:
        # What the benchmark gives: helpers and imports that its tests may use.
        exec(compile(job["prelude"], "<prelude>", "exec"), namespace)
    except Exception:
        namespace = {}
    candidate, read = candidate_of(answers, requests, name)
    try:
        if line_in(answers) != "ready":  # Sent before the first line of the program runs.
            raise EOFError
        line_out(verdict, "started")
        line_out(requests, "go")
        read()
        namespace[name] = candidate
        exec(compile(job["test"], "<test>", "exec"), namespace)
        namespace["check"](candidate)
        result = {"passed": True}
    except EOFError:
        result = {"gone": "it ended"}
    except BaseException as error:
        result = {"failed": getattr(error, "program_line", None) or last_line(error)}
    if Gone.first:
        result = {"gone": Gone.first}
    line_out(verdict, result)


main()
