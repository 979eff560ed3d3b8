# The process that holds the program under test. It never sees the tests, only calls of its entry point.


def raised(error):
    try:
        text = str(error)[:400]
    except BaseException:
        text = ""
    return {"raised": type(error).__name__, "line": last_line(error), "text": text}


def main():
    requests, answers = open_in(3), open_out(4)
    job = json.load(open_in(5))
    sys.path[:] = job["path"]
    os.environ.clear()
    line_out(answers, "ready")
    line_in(requests)
    try:
        # Without a `__name__`, as the program of openai/human-eval runs.
        namespace = {}
        exec(compile(job["source"], "<program>", "exec"), namespace)
        candidate = namespace[job["entry_point"]]
        reply = {"value": None}
    except BaseException as error:
        reply = raised(error)
    while True:
        line_out(answers, reply)
        args, kwargs = unpack(line_in(requests))
        try:
            reply = {"value": pack(candidate(*args, **kwargs))}
        except BaseException as error:
            reply = raised(error)


try:
    main()
except EOFError:
    pass
