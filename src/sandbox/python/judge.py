# The process that runs the tests. Nothing of the program under test is ever executed here: the candidate is a
# function that asks the other process, and what comes back is plain data.


class Gone(BaseException):
    """The program ended, or says what no runner says. A test that catches it, by a bare `except`, changes nothing."""

    first = None

    def __init__(self, what):
        Gone.first = Gone.first or what


class Judge(Peer):
    caught = Exception

    def pack_builtin(self, value):
        # The program calls its own: ours, `eval` among them, are out of its reach.
        name = str(getattr(value, "__name__", ""))
        return ["T", name] if getattr(builtins, name, None) is value else None

    def builtin(self, name):
        kind = getattr(builtins, name)
        if not isinstance(kind, type):
            raise TypeError("no builtin type")
        return kind

    def send(self, message):
        try:
            super().send(message)
        except OSError as error:
            raise Gone(last_line(error)) from None

    def receive(self):
        try:
            message = super().receive()
            if not isinstance(message, dict):
                raise TypeError("no message")
            return message
        except Exception as error:
            raise Gone(last_line(error)) from None

    def heard(self, exchange, message):
        try:
            return super().heard(exchange, message)
        except Exception as error:
            raise Gone(last_line(error)) from None


def main():
    peer, verdict = Judge(open_in(3), open_out(4)), open_out(6)
    job = json.load(open_in(5))
    settle_in(job)
    if job["hide"]:
        # `PR_SET_DUMPABLE`: the program, of the same user, could read the tests out of our memory through `/proc`.
        import ctypes

        if ctypes.CDLL(None).prctl(4, *map(ctypes.c_ulong, (0, 0, 0, 0))):
            raise OSError("the judge cannot hide")
    name = job["entry_point"]
    namespace = prelude_of(job["prelude"])
    peer.classes = classes_of(namespace)
    candidate = peer.stand_in(0, True)
    candidate.__name__ = candidate.__qualname__ = name
    try:
        peer.receive()  # Sent before the first line of the program runs.
        line_out(verdict, "started")
        peer.send({"classes": list(peer.classes)})
        peer.reply_to(Exchange(peer))
        namespace[name] = candidate
        exec(compile(job["test"], "<test>", "exec"), namespace)
        namespace["check"](candidate)
        result = {"passed": True}
    except BaseException as error:
        result = {"failed": getattr(error, "program_line", None) or last_line(error)}
    if Gone.first:
        result = {"gone": Gone.first}
    line_out(verdict, result)


main()
