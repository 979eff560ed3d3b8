# The process that holds the program under test. It never sees the tests, only calls of its entry point.


class Program(Peer):
    caught = BaseException

    def pack_builtin(self, value):
        # The judge calls ours, never its own on our word.
        return None

    def builtin(self, name):
        return getattr(builtins, name)


def main():
    peer = Program(open_in(3), open_out(4))
    job = json.load(open_in(5))
    settle_in(job)
    peer.send({"ready": True})
    classes = peer.receive()["classes"]
    exchange = Exchange(peer)
    try:
        # Without a `__name__`, as the program of openai/human-eval runs.
        namespace = {}
        exec(compile(job["source"], "<program>", "exec"), namespace)
        peer.keep(namespace[job["entry_point"]])
        peer.classes = {name: namespace[name] for name in classes if isinstance(namespace.get(name), type)}
        reply = exchange.tell(None)
    except BaseException as error:
        reply = exchange.tell_raised(error)
    peer.send(reply)
    while True:
        peer.serve(peer.receive())


try:
    main()
except EOFError:
    pass
