"""Headless Chromium over the pipe of its DevTools protocol; nothing but Python's own library is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

# Against waiting for ever, not against slowness.
PATIENCE_S = 120

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-extensions --remote-debugging-pipe""".split()


class Browser:
    """One browser; use it as a context."""

    def __init__(self):
        names = ("chromium", "chromium-browser", "google-chrome")
        self.program = next((path for path in map(shutil.which, names) if path), None)

    def __enter__(self):
        self.profile = tempfile.mkdtemp()
        to_browser, self.to = os.pipe()
        self.of, of_browser = os.pipe()

        def ends():  # The browser reads from 3 and writes to 4.
            os.dup2(to_browser, 103)
            os.dup2(of_browser, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [self.program, *FLAGS, f"--user-data-dir={self.profile}"],
            preexec_fn=ends, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(of_browser)
        self.bytes, self.n, self.events = b"", 0, []
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
        except (EOFError, OSError, TimeoutError):
            self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.of)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, session=None, **params):
        """Asks for something and waits for its result; what happens meanwhile is kept in `events`."""
        self.n += 1
        message = {"id": self.n, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        while True:
            found = self.read()
            if found.get("id") == self.n:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self.events.append(found)

    def read(self):
        """The next message."""
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self.bytes:
            if not select.select([self.of], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser says nothing")
            some = os.read(self.of, 1 << 20)
            if not some:
                raise EOFError("the browser is gone")
            self.bytes += some
        message, self.bytes = self.bytes.split(b"\0", 1)
        return json.loads(message)


class Page:
    """A page of a browser, of a width and a colour scheme."""

    def __init__(self, browser, width, scheme):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.target = target
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.size(width)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def size(self, width, height=900):
        """The window's size; a narrow one is a phone's."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)

    def call(self, method, **params):
        """A command to this page."""
        return self.browser.call(method, self.session, **params)

    def open(self, address):
        """Loads an address; the milliseconds until it was loaded and laid out."""
        self.said()
        begun = time.monotonic()
        self.call("Page.navigate", url=address)
        self.loaded()
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return round(1000 * (time.monotonic() - begun))

    def loaded(self):
        """Waits until the page is loaded."""
        while not any(self.is_own(event, "Page.loadEventFired") for event in self.browser.events):
            self.browser.events.append(self.browser.read())

    def is_own(self, event, method):
        return event.get("sessionId") == self.session and event.get("method") == method

    def js(self, text):
        """The value of an expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{text}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def pause(self, milliseconds):
        self.js(f"new Promise(done => setTimeout(done, {milliseconds}))")

    def place(self, element):
        """The middle of an element, after it was brought into the window."""
        return self.js(f"""(() => {{ const e = {element}; e.scrollIntoView({{ block: 'center' }});
            const box = e.getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2]; }})()""")

    def hover(self, element):
        """Brings the mouse there."""
        x, y = self.place(element)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.pause(30)

    def click(self, element, leaves=False):
        """Presses and releases the mouse there; a click that leaves the page has nobody to wait for."""
        x, y = self.place(element)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        if not leaves:
            self.pause(30)

    def type(self, element, text):
        """Puts text or a choice into a field, as a person does."""
        self.js(f"""(() => {{ const e = {element}; e.value = {json.dumps(text)};
            e.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()""")
        self.pause(220 if self.js(f"({element}).tagName") == "INPUT" else 20)

    def said(self):
        """Faults that the console named, and dialogs, since the last call."""
        faults = []
        for event in self.browser.events:
            params = event.get("params", {})
            if self.is_own(event, "Runtime.exceptionThrown"):
                details = params["exceptionDetails"]
                faults.append(details.get("exception", {}).get("description", details["text"]))
            elif self.is_own(event, "Log.entryAdded") and params["entry"]["level"] in ("error", "warning"):
                faults.append(params["entry"]["text"])
            elif self.is_own(event, "Runtime.consoleAPICalled") and params["type"] in ("error", "warning", "assert"):
                faults.append(str(params["args"]))
            elif self.is_own(event, "Page.javascriptDialogOpening"):
                faults.append(f"a dialog: {params['message']}")
                self.call("Page.handleJavaScriptDialog", accept=True)
        self.browser.events = []
        return faults

    def shot(self, path, width, most):
        """A picture of the page from its top, at most so high."""
        height = min(most, self.js("document.documentElement.scrollHeight"))
        self.size(width, height)
        self.pause(300)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        self.size(width)
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
