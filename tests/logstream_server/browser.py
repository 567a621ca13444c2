"""Real Chromium, without a window, driven over its own debugging protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from .process import DEADLINE_S, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S = 60.0
"""A browser's first start on a busy machine."""
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--remote-debugging-port=0", "--no-proxy-server"),
)


class Browser:
    """One Chromium with a profile of its own. `names`: host names that lead to this machine, as in `*.example`."""

    def __init__(self, folder: Path, *switches: str, names: str = "") -> None:
        assert CHROMIUM is not None
        rules = (f"--host-resolver-rules=MAP {names} 127.0.0.1",) if names else ()
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [CHROMIUM, *SWITCHES, *rules, *switches, f"--user-data-dir={folder / 'profile'}", "about:blank"],
                stdout=log,
                stderr=log,
            )
        marker = folder / "profile" / "DevToolsActivePort"
        self._stack = contextlib.ExitStack()
        self._port = int(eventually(lambda: marker.exists() and marker.read_text(), "Chromium", START_S).split()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def page(self, url: str) -> Page:
        """A new page at this address; it may not have loaded yet."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310 - an address of our own
            target = json.load(answer)
        page = Page(self._stack.enter_context(connect(target["webSocketDebuggerUrl"], max_size=None)))
        page.go(url)
        return page


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.call("Page.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """A command of the protocol, and its result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        end = time.monotonic() + DEADLINE_S
        while True:
            message = json.loads(self._connection.recv(timeout=max(0.1, end - time.monotonic())))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    def go(self, url: str) -> None:
        """To another address."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """What an expression, or a promise, comes to in the page."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """What an expression comes to as soon as that is true."""

        def check() -> Any:
            try:
                return self.run(script)
            except AssertionError:
                return None  # between two pages there is none

        return eventually(check, f"in the page: {script}")

    def type(self, text: str) -> None:
        """Type into what has the focus, and press Enter."""
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )

    @property
    def path(self) -> str:
        """The path and the query of its address."""
        return str(self.run("location.pathname + location.search"))
