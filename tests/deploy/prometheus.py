"""A real Prometheus for tests, with the configuration and the alerts that are shipped."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"


def tool(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; skips the test where it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(
            f"{name} is not on PATH: apt-get download prometheus && dpkg -x prometheus_*.deb DIR, "
            "then add DIR/usr/bin; or take it from a release of prometheus"
        )
    return found


def alert_rules() -> Sequence[Mapping[str, Any]]:
    """The shipped rules, as Prometheus reads them."""
    [group] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


class Prometheus:
    """A running server. Made by `prometheus`."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query.

        Raises:
            AssertionError: Prometheus refuses the query, or has something to remark on it.
        """
        async with self._http.get(
            f"{self._url}/api/v1/query", params={"query": expression}
        ) as response:
            answer = await response.json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        remarks = [*answer.get("warnings", ()), *answer.get("infos", ())]
        assert not remarks, f"{expression}: {remarks}"
        samples: list[dict[str, Any]] = answer["data"]["result"]
        return samples

    async def value(self, expression: str) -> float | None:
        """The one sample of an expression; None without one."""
        samples = await self.query(expression)
        assert len(samples) < 2, samples
        return float(samples[0]["value"][1]) if samples else None

    async def alerts(self) -> dict[str, dict[str, Any]]:
        """Pending and firing alerts by name; of several with one name the last."""
        async with self._http.get(f"{self._url}/api/v1/alerts") as response:
            found = (await response.json())["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in found}

    async def firing(self, name: str, seconds: float = 30) -> dict[str, Any]:
        """Waits until an alert fires, and returns it."""
        alert: dict[str, Any] = {}

        async def fires() -> bool:
            alert.update((await self.alerts()).get(name, {}))
            return alert.get("state") == "firing"

        await eventually(fires, seconds)
        return alert

    async def resolved(self, name: str, seconds: float = 30) -> None:
        """Waits until an alert is neither pending nor firing."""

        async def is_quiet() -> bool:
            return name not in await self.alerts()

        await eventually(is_quiet, seconds)

    async def quiet(self, seconds: float = 30) -> None:
        """Waits until no alert is pending or firing."""

        async def is_quiet() -> bool:
            return not await self.alerts()

        await eventually(is_quiet, seconds)


async def eventually(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Polls until the condition is true.

    Raises:
        TimeoutError: it never was.
    """
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def prometheus(home: Path, port: int, daemon_port: int) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes a daemon on this machine once a second.

    Its configuration is the shipped one with other times and addresses; its rules are the shipped
    ones with every ``for`` at 1 s.
    """
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    [own] = [job for job in configuration["scrape_configs"] if job["job_name"] == "modeldb-sync"]
    own["static_configs"] = [{"targets": [f"127.0.0.1:{daemon_port}"]}]
    configuration["scrape_configs"] = [own]
    rules = re.sub(r"(?m)^( +)for: \w+$", r"\1for: 1s", (MONITORING / "alerts.yml").read_text())
    home.mkdir()
    (home / "alerts.yml").write_text(rules)
    (home / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            tool("prometheus"),
            f"--config.file={home}/prometheus.yml",
            f"--storage.tsdb.path={home}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}"

            async def is_ready() -> bool:
                assert process.returncode is None, (home / "log").read_text()
                try:
                    async with http.get(f"{url}/-/ready") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_ready)
            yield Prometheus(url, http)
    finally:
        if process.returncode is None:
            process.kill()  # its data is thrown away
        await process.wait()
