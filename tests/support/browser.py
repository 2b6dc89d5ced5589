"""A page in a real Chromium, through its driver's HTTP interface: no other package."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request

import cv2
import numpy as np
import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # what the protocol calls an element's id
RIGHT = "\ue014"  # the arrow key


@contextlib.contextmanager
def opened(path):
    """A `Tab` that shows a file; skips where there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium with chromedriver on PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            said = (
                re.search(r"started successfully on port (\d+)", line) for line in process.stdout
            )
            port = next(filter(None, said))[1]
            tab = Tab(f"http://localhost:{port}/session", chromium, profile)
            try:
                tab.ask("url", url=path.resolve().as_uri())
                yield tab
            finally:
                tab.ask("", method="DELETE")
        finally:
            process.terminate()
            process.communicate()


class Tab:
    """A browser's window; `selector`s are of CSS."""

    def __init__(self, address, chromium, profile):
        self.address = address
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        self.address += "/" + self.ask("", capabilities=wanted)["sessionId"]

    def ask(self, command, method="POST", **body):
        """What the driver answers."""
        request = urllib.request.Request(
            f"{self.address}/{command}".rstrip("/"),
            json.dumps(body).encode() if method == "POST" else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        # Never through a proxy: the driver is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as reply:
            return json.load(reply)["value"]

    def evaluate(self, expression):
        """The value of an expression of JavaScript."""
        return self.ask("execute/sync", script=f"return {expression.strip()}", args=[])

    def tell(self, command, **parameters):
        """A command of the browser's own protocol."""
        return self.ask("goog/cdp/execute", cmd=command, params=parameters)

    def resize(self, width, height, is_phone=False, scheme="light"):
        """Show the page on a screen of a size and in a color scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.tell("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell("Emulation.setEmulatedMedia", features=features)

    def find(self, selector):
        """The first element of a selector."""
        return self.ask("element", using="css selector", value=selector)

    def point_at(self, selector):
        """Move the mouse to the middle of an element."""
        move = {"type": "pointerMove", "duration": 0, "origin": self.find(selector), "x": 0, "y": 0}
        mouse = {"type": "pointer", "id": "mouse", "actions": [move]}
        # Where it is out of encoded the driver would refuse.
        self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        self.ask("actions", actions=[mouse])

    def click(self, selector):
        """Click on, or tap, an element."""
        self.ask(f"element/{self.find(selector)[ELEMENT]}/click")

    def press(self, *keys):
        """Press keys where the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def is_shown(self, selector):
        """Whether each element of a selector has a `display` other than none."""
        return self.evaluate(
            f"[...document.querySelectorAll({selector!r})]"
            ".map(each => getComputedStyle(each).display != 'none')"
        )

    def picture(self, selector="html"):
        """What is drawn where an element is, `(h, w, 3)`, uint8, RGB."""
        left, top, width, height = self.evaluate(
            f"(b => [b.x + scrollX, b.y + scrollY, b.width, b.height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        taken = self.tell("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        content = np.frombuffer(base64.b64decode(taken["data"]), np.uint8)
        return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]
