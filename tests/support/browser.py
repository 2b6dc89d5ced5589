"""A page in Chromium, controlled through the HTTP interface of chromedriver."""

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
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key of an element's id
RIGHT = "\ue014"  # the arrow key


@contextlib.contextmanager
def opened(page):
    """Open a page, a file's path or a URL, in a `Tab`; skips the test if there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium with chromedriver on PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            messages = (
                re.search(r"started successfully on port (\d+)", line) for line in process.stdout
            )
            port = next(filter(None, messages))[1]
            tab = Tab(f"http://localhost:{port}/session", chromium, profile)
            try:
                tab.ask("url", url=page if isinstance(page, str) else page.resolve().as_uri())
                yield tab
            finally:
                tab.ask("", method="DELETE")
        finally:
            process.terminate()
            process.communicate()


class Tab:
    """A browser tab. Every `selector` is a CSS selector."""

    def __init__(self, address, chromium, profile):
        self.address = address
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        self.address += "/" + self.ask("", capabilities=wanted)["sessionId"]

    def ask(self, command, method="POST", **body):
        """Send a command to the driver; returns its answer."""
        request = urllib.request.Request(
            f"{self.address}/{command}".rstrip("/"),
            json.dumps(body).encode() if method == "POST" else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        # Bypasses proxies, because the driver is local.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as reply:
            return json.load(reply)["value"]

    def evaluate(self, expression):
        """Evaluate a JavaScript expression."""
        return self.ask("execute/sync", script=f"return {expression.strip()}", args=[])

    def control(self, command, **parameters):
        """Send a command of the Chrome DevTools Protocol; returns its answer."""
        return self.ask("goog/cdp/execute", cmd=command, params=parameters)

    def resize(self, width, height, is_phone=False, scheme="light"):
        """Emulate a screen size and a color scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.control("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.control("Emulation.setEmulatedMedia", features=features)

    def find(self, selector):
        """Return the first element that matches a selector."""
        return self.ask("element", using="css selector", value=selector)

    def point_at(self, selector):
        """Move the mouse to the center of an element."""
        move = {"type": "pointerMove", "duration": 0, "origin": self.find(selector), "x": 0, "y": 0}
        mouse = {"type": "pointer", "id": "mouse", "actions": [move]}
        # The driver refuses to move to elements outside the viewport.
        self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        self.ask("actions", actions=[mouse])

    def click(self, selector):
        """Click on or tap an element."""
        self.ask(f"element/{self.find(selector)[ELEMENT]}/click")

    def type(self, selector, text):
        """Type into a text field, or choose the file with the path `text` in a file field."""
        self.ask(f"element/{self.find(selector)[ELEMENT]}/value", text=str(text))

    def press(self, *keys):
        """Press keys in the focused element."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def is_shown(self, selector):
        """Return whether each matching element has a `display` other than none."""
        return self.evaluate(
            f"[...document.querySelectorAll({selector!r})]"
            ".map(each => getComputedStyle(each).display != 'none')"
        )

    def picture(self, selector="html"):
        """Take a screenshot of an element, `(h, w, 3)`, uint8, RGB."""
        left, top, width, height = self.evaluate(
            f"(b => [b.x + scrollX, b.y + scrollY, b.width, b.height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        taken = self.control("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        content = np.frombuffer(base64.b64decode(taken["data"]), np.uint8)
        return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]
