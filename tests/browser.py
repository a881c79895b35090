"""A small Chrome DevTools Protocol client: one headless Chromium, one page, over `websockets`."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--mute-audio",
    "--force-device-scale-factor=1", "--remote-debugging-port=0",
)  # fmt: skip
_START_S, _ANSWER_S = 60.0, 30.0
KEY_CODES = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    " ": 32,
    "Escape": 27,
    "Backspace": 8,
    "Tab": 9,
}


def find_browser() -> str | None:
    """The command of an installed Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. `errors` collects what the page threw or logged as an error."""

    def __init__(self, socket: ClientConnection) -> None:
        self.errors: list[str] = []
        self._socket, self._number = socket, 0
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_ANSWER_S))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def open(self, url: str, width: int = 1280, height: int = 860, phone: bool = False) -> None:
        """Go to a page, in a window of that size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout: float = 20.0) -> Any:
        """Until an expression is truthy; its value."""
        until = time.monotonic() + timeout
        while True:
            value = self.evaluate(f"(() => {{ try {{ return {expression} }} catch (e) {{ return null }} }})()")
            if value:
                return value
            assert time.monotonic() < until, f"{expression} stayed {value!r}; errors: {self.errors}"
            time.sleep(0.05)

    def key(self, key: str, down: bool) -> None:
        """Press or release a key as the keyboard does."""
        code = KEY_CODES.get(key) or ord(key.upper())
        name = {" ": "Space"}.get(key, key if len(key) > 1 else f"Key{key.upper()}")
        extra = {"text": key} if down and len(key) == 1 else {}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown" if down else "keyUp", key=key, code=name,
            windowsVirtualKeyCode=code, **extra,
        )  # fmt: skip

    def click(self, selector: str) -> None:
        """A mouse click in the middle of an element."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def touch(self, selector: str, down: bool) -> None:
        """A finger on an element, or taken away."""
        x, y = self._middle(selector)
        points = [{"x": x, "y": y}] if down else []
        self.call("Input.dispatchTouchEvent", type="touchStart" if down else "touchEnd", touchPoints=points)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))

    def _middle(self, selector: str) -> tuple[float, float]:
        script = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        x, y = self.evaluate(script)
        return float(x), float(y)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


@contextmanager
def browser(command: str) -> Iterator[Callable[[], Page]]:
    """A running Chromium; call what it gives for a new tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as sockets:
        process = subprocess.Popen(
            [command, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port, path = _devtools(Path(folder) / "DevToolsActivePort", process)
            control = sockets.enter_context(connect(f"ws://127.0.0.1:{port}{path}", max_size=None))
            numbers = itertools.count(1)

            def new_tab() -> Page:
                number = next(numbers)
                params = {"url": "about:blank"}
                control.send(json.dumps({"id": number, "method": "Target.createTarget", "params": params}))
                answer: dict[str, Any] = {}
                while answer.get("id") != number:
                    answer = json.loads(control.recv(timeout=_ANSWER_S))
                url = f"ws://127.0.0.1:{port}/devtools/page/{answer['result']['targetId']}"
                return Page(sockets.enter_context(connect(url, max_size=None)))

            yield new_tab
        finally:
            sockets.close()
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _devtools(file: Path, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Port and path of the DevTools socket, once Chromium has written them."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        if file.is_file() and len(lines := file.read_text().split()) == 2:
            return int(lines[0]), lines[1]
        time.sleep(0.05)
    raise RuntimeError(f"the browser did not start: exit code {process.poll()}")
