"""Every kind of AWS credentials, in every state, at the start and while the daemon runs.

A source that gives nothing is a fault of an edge: held, told in one line, tried again. The daemon
ends only for what is wrong in its environment, prints no traceback, and recovers by itself.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
from typing import TYPE_CHECKING

import pytest
import structlog
from aiobotocore.utils import AioContainerMetadataFetcher

from daemon.errors import SetupFault
from daemon.observability.logs import configure_logging
from daemon.operations.check import check
from daemon.operations.finding import Verdict
from tests.support.credential_scene import BREAKS, GARBAGE, KINDS, ROLE, Scene, credential_scene
from tests.support.credential_world import SECRET
from tests.support.daemon_process import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("no_backoff", "quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses and time limits."""
    monkeypatch.setattr("daemon.app.PROBE_BACKOFF", (0.01, 0.05))
    monkeypatch.setattr("daemon.intake.poller.LEAST_PERIOD_SECONDS", 0.02)
    monkeypatch.setattr("daemon.intake.poller.RETRY_SECONDS", 0.02)
    monkeypatch.setattr("daemon.aws.credentials.PROGRAM_SECONDS", 0.3)
    monkeypatch.setattr("daemon.aws.clients._STS_READ_SECONDS", 0.2)
    monkeypatch.setattr(AioContainerMetadataFetcher, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(AioContainerMetadataFetcher, "SLEEP_TIME", 0)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process logs, libraries included."""
    stream = io.StringIO()
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    configure_logging("info", "json", stream)
    yield stream
    logging.getLogger().handlers[:], logging.getLogger().level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
async def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> AsyncIterator[Scene]:
    async with credential_scene(tmp_path, monkeypatch, log) as made:
        yield made


CASES = [(kind, broken) for kind, breaks in BREAKS.items() for broken in breaks]
_ALWAYS = {"absent", "file absent"}
MARKED = [
    pytest.param(kind, broken, marks=() if broken in _ALWAYS else pytest.mark.slow)
    for kind, broken in CASES
]
"""The others are slow all together: each waits for probes."""
NAMED = {
    "file": "credentials",
    "process": "program",
    "container": "/creds",
    "web-identity": "token",
    "instance": "metadata",
    "sso": "profile job",
    "role": ROLE,
    "role of a program": ROLE,
}
"""What the message names, unless a file of profiles is broken."""


@pytest.mark.parametrize(("kind", "broken"), MARKED)
async def test_credentials_that_are_not_there_at_the_start_are_waited_for(
    scene: Scene, kind: str, broken: str
) -> None:
    KINDS[kind](scene)
    BREAKS[kind][broken](scene)

    scene.start()
    words = await scene.faulty()
    if "a while" not in broken:
        KINDS[kind](scene)
    await scene.works()

    _one_line_without_traceback(scene, kind, broken, words)


@pytest.mark.parametrize(("kind", "broken"), MARKED)
async def test_credentials_that_are_lost_while_the_daemon_runs_are_waited_for(
    scene: Scene, kind: str, broken: str
) -> None:
    KINDS[kind](scene)
    scene.start()
    await scene.works()

    BREAKS[kind][broken](scene)
    scene.world.expire()
    words = await scene.faulty()
    if "a while" not in broken:
        KINDS[kind](scene)
    await scene.works()

    _one_line_without_traceback(scene, kind, broken, words)


def _half_in_the_environment(scene: Scene) -> None:
    scene.environment.setenv("AWS_ACCESS_KEY_ID", "ASIAHALF")


def _no_role_in_the_environment(scene: Scene) -> None:
    KINDS["web-identity"](scene)
    scene.environment.delenv("AWS_ROLE_ARN")


def _no_time_in_the_environment(scene: Scene) -> None:
    KINDS["environment"](scene)
    scene.environment.setenv("AWS_CREDENTIAL_EXPIRATION", "soon")


def _no_such_profile(scene: Scene) -> None:
    KINDS["process"](scene)
    scene.environment.setenv("AWS_PROFILE", "other")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (_half_in_the_environment, "AWS_SECRET_ACCESS_KEY is missing"),
        (_no_role_in_the_environment, "no role ARN"),
        (_no_time_in_the_environment, "AWS_ACCESS_KEY_ID"),
        (_no_such_profile, "profile other is not known.*config .* does not have it"),
    ],
)
async def test_only_what_is_wrong_in_the_environment_ends_the_daemon(
    scene: Scene, setting: Callable[[Scene], None], words: str
) -> None:
    setting(scene)
    scene.start()
    assert scene.running is not None

    async with asyncio.timeout(15):
        with pytest.raises(SetupFault, match=words):
            await scene.running

    assert "Traceback" not in scene.log.getvalue()


@pytest.mark.parametrize("kind", ["file", "web-identity", "process", "role"])
@pytest.mark.parametrize("broken", [None, "config"])
async def test_check_has_a_line_for_every_edge_whatever_the_credentials_are(
    scene: Scene, capsys: pytest.CaptureFixture[str], kind: str, broken: str | None
) -> None:
    KINDS[kind](scene)
    scene.remove("credentials")
    scene.remove("token")
    scene.remove("program")
    if broken is not None:
        scene.write(broken, GARBAGE)
        scene.environment.setenv("AWS_CONFIG_FILE", str(scene.home / broken))

    findings = [finding async for finding in check(scene.settings())]

    assert [finding.subject for finding in findings if finding.verdict is Verdict.FAILED] == [
        "queue",
        "SageMaker",
        "target modeldb-v2",
    ]
    assert {finding.subject for finding in findings} >= {"checkpoint", "http"}
    assert all("AWS" in finding.text for finding in findings[:2])
    assert "Traceback" not in scene.log.getvalue() + "".join(capsys.readouterr())


async def test_a_stop_while_the_aws_files_are_waited_for_is_clean(scene: Scene) -> None:
    KINDS["process"](scene)
    BREAKS["process"]["config garbage"](scene)
    scene.start()
    await scene.faulty()
    assert scene.daemon is not None
    assert scene.running is not None

    status, page = await scene.get("/healthz")
    assert (status, page["state"]) == (200, "alive")
    status, page = await scene.get("/readyz")
    assert (status, page["state"]) == (503, "not ready")
    scene.daemon.stop()
    async with asyncio.timeout(5):
        await scene.running

    assert scene.daemon.unclean == []


async def test_a_renewal_that_fails_early_is_one_line_and_the_old_credentials_serve(
    scene: Scene,
) -> None:
    """Between 10 and 15 minutes before they expire, botocore renews them and can do without."""
    scene.world.valid_seconds = 780
    KINDS["container"](scene)
    scene.start()
    await scene.works()

    scene.world.break_down("error")
    calls = scene.world.calls["ReceiveMessage"]
    async with asyncio.timeout(10):
        while scene.world.calls["ReceiveMessage"] < calls + 5:
            await asyncio.sleep(0.01)

    assert "Traceback" not in scene.log.getvalue()
    (line,) = [line for line in scene.lines() if "renewed" in line["event"]]
    assert line["event"] == "AWS credentials could not be renewed; they are still valid"
    assert line["detail"] == "it answers HTTP 500 Internal Server Error"
    assert not [line for line in scene.lines() if line["event"] == "breaker opened"]


async def test_a_refresh_that_goes_on_failing_is_said_once(scene: Scene) -> None:
    KINDS["web-identity"](scene)
    scene.start()
    await scene.works()

    scene.remove("token")
    await scene.faulty()
    asked = scene.probes()
    async with asyncio.timeout(10):
        while scene.probes() < asked + 10:
            await asyncio.sleep(0.01)

    warnings = [line for line in scene.lines() if line["level"] != "info"]
    assert [line["event"] for line in warnings] == ["breaker opened"]
    assert "Traceback" not in scene.log.getvalue()


_REAL = [
    ("file", "absent"),
    ("process", "absent"),
    ("container", "file absent"),
    ("web-identity", "file absent"),
]


@pytest.mark.parametrize(("kind", "broken"), _REAL)
async def test_a_real_process_waits_for_its_credentials(
    scene: Scene, free_port: Callable[[], int], kind: str, broken: str
) -> None:
    KINDS[kind](scene)
    BREAKS[kind][broken](scene)
    process = _process_of(scene, free_port())
    await process.start()
    try:
        await process.logged(lambda line: line.get("reason") == "credentials")
        KINDS[kind](scene)
        await process.logged(
            lambda line: (
                line.get("event") == "breaker closed" and line["edge"] in {"queue", "sagemaker"}
            ),
            times=2,
        )
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    finally:
        await process.kill()
    assert not [line for line in process.log if line.get("level") in {"text", "error"}]
    assert SECRET not in json.dumps(process.log)


def _process_of(scene: Scene, port: int) -> DaemonProcess:
    made = scene.settings()
    config = scene.write(
        "daemon.yaml",
        json.dumps(
            {
                "aws": {
                    "region": "eu-west-1",
                    "account_id": "123456789012",
                    "sqs_endpoint_url": scene.world.url,
                    "sagemaker_endpoint_url": scene.world.url,
                    "sts_endpoint_url": scene.world.url,
                },
                "queue": {"url": made.queue.url, "wait_seconds": 1},
                "target": {"url": "http://127.0.0.1:9/v1"},
                "checkpoint": {"path": str(scene.home / "checkpoint.db")},
                "http": {"host": "127.0.0.1", "port": port},
                "log": {"format": "json"},
            }
        ),
    )
    return DaemonProcess(config, port, os.environ, "tests.support.daemon_with_quick_probes")


def _one_line_without_traceback(scene: Scene, kind: str, broken: str, words: str) -> None:
    text = scene.log.getvalue()
    assert "Traceback" not in text
    assert SECRET not in text
    assert SECRET not in words
    assert "\n" not in words
    assert not any("exception" in line for line in scene.lines())
    assert not [line for line in scene.lines() if line["level"] == "error"]
    if broken.startswith("config"):
        assert str(scene.home / "config") in words
    elif kind in NAMED:
        assert NAMED[kind] in words
