"""Headless Chromium, spoken to in the DevTools protocol over aiohttp's websockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
NO_CHROMIUM = "needs chromium on PATH"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
PHONE = (360, 740)
DESKTOP = (1280, 900)
_SECONDS = 30


@dataclass
class Tab:
    """One page of the browser."""

    _socket: aiohttp.ClientWebSocketResponse
    errors: list[str] = field(default_factory=list)
    """What the page wrote to the console as an error, violations of its own policy among it."""
    _number: int = 0
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def listen(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if data.get("id") in self._answers:
                self._answers.pop(data["id"]).set_result(data)
            elif data.get("method") == "Page.loadEventFired":
                self._loaded.set()
            elif data.get("method") == "Log.entryAdded":
                entry = data["params"]["entry"]
                if entry["level"] == "error":
                    self.errors.append(f"{entry['text']} {entry.get('url', '')}")
            elif data.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(data["params"]["exceptionDetails"]))

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(_SECONDS):
            data = await answer
        assert "error" not in data, data
        result: dict[str, Any] = data["result"]
        return result

    async def open(self, url: str) -> None:
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(_SECONDS):
            await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Waits until an expression is true."""
        async with asyncio.timeout(_SECONDS):
            while not await self.run(condition):
                await asyncio.sleep(0.05)

    async def look(
        self, size: tuple[int, int], *, dark: bool = False, scripts: bool = True
    ) -> None:
        """Sets the size of the window, the scheme, and whether scripts run."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size[0] < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def press(self, key: str, code: int, **more: object) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **more,
            )

    async def picture(self, height: int | None = None) -> bytes:
        """A PNG of the page, as high as it is or as wanted."""
        box = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip: Mapping[str, float] = {
            "x": 0,
            "y": 0,
            "width": box["width"],
            "height": min(box["height"], height or box["height"]),
            "scale": 1,
        }
        answer = await self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(answer["data"])


@contextlib.contextmanager
def running_chromium(folder: Path) -> Iterator[str]:
    """Starts Chromium with an empty profile in a folder, and ends it. Gives the address (host and
    port) of its DevTools.
    """
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            yield _address(process, folder / "stderr")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"DevTools listening on ws://([^/]+)/", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"chromium did not start: {log.read_text()}")


@contextlib.asynccontextmanager
async def tab_of(address: str) -> AsyncIterator[Tab]:
    """A new tab of a running Chromium."""
    async with aiohttp.ClientSession(f"http://{address}") as session:
        async with session.put("/json/new?about:blank") as answer:
            made = json.loads(await answer.text())
        async with session.ws_connect(made["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = Tab(socket)
            listening = asyncio.create_task(tab.listen())
            try:
                for domain in ("Page", "Runtime", "Log"):
                    await tab.call(f"{domain}.enable")
                yield tab
            finally:
                async with session.get(f"/json/close/{made['id']}"):
                    pass
                listening.cancel()
                await asyncio.wait([listening])
