"""The image in a container engine: its user, what it may write, how it stops."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from daemon import __version__
from tests.containers.engine import (
    COMPOSE,
    ENGINE,
    HARDENED,
    IMAGE,
    NO_ENGINE,
    engine,
    logs,
    printed,
    state,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.slow,  # a container for each test
    pytest.mark.skipif(not (ENGINE and COMPOSE), reason=NO_ENGINE),
]

MINIMAL = {
    "MODELDB_SYNC_QUEUE__URL": "http://127.0.0.1:9/123456789012/modeldb-sync",
    "MODELDB_SYNC_TARGET__URL": "http://127.0.0.1:9/v1",
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
}


@pytest.fixture
async def container() -> AsyncIterator[str]:
    """A daemon whose dependencies are all down, hardened as in docker-compose.yml."""
    variables = [f"--env={name}={value}" for name, value in MINIMAL.items()]
    made = (await engine("run", "--detach", *HARDENED, *variables, IMAGE)).strip()
    yield made
    await engine("rm", "--force", "--volumes", made)


async def started(container: str) -> None:
    async with asyncio.timeout(60):
        while not any(line["event"] == "started" for line in await logs(container)):
            await asyncio.sleep(0.2)


async def test_it_says_which_version_it_is() -> None:
    assert (await engine("run", "--rm", *HARDENED, IMAGE, "--version")).split() == [
        "sagemaker-modeldb-sync",
        __version__,
    ]


async def test_without_settings_it_names_the_variables() -> None:
    made = (await engine("run", "--detach", *HARDENED, IMAGE)).strip()
    try:
        assert int(await engine("wait", made)) == 2
        said = await printed(made)
    finally:
        await engine("rm", "--force", "--volumes", made)
    assert "MODELDB_SYNC_QUEUE__URL" in said
    assert "MODELDB_SYNC_TARGET__URL" in said
    assert "Traceback" not in said


async def test_it_is_nobody_and_has_no_capability(container: str) -> None:
    await started(container)
    given = await engine("exec", container, "python", "-c", "print(open('/proc/1/status').read())")
    status = dict(line.split(":\t", 1) for line in given.splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert {
        int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    } == {0}
    assert status["NoNewPrivs"] == "1"


async def test_it_can_write_to_its_state_and_to_nothing_else(container: str) -> None:
    await started(container)
    script = """
import os
for place in ("/", "/opt/modeldb-sync", "/usr/local", "/etc", "/home", "/var/lib/modeldb-sync"):
    try:
        open(place + "/probe", "w").close()
        print(place)
    except OSError:
        pass
import tempfile; print(tempfile.gettempdir())
print(oct(os.stat("/var/lib/modeldb-sync/checkpoint.db").st_mode & 0o777))
"""
    assert (await engine("exec", container, "python", "-c", script)).split() == [
        "/var/lib/modeldb-sync",
        "/var/lib/modeldb-sync",
        "0o600",
    ]


async def test_the_health_check_passes_while_every_edge_is_down(container: str) -> None:
    await started(container)
    check = json.loads(await engine("inspect", container))[0]["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    await engine("exec", container, *check[1:])
    await engine("exec", "--env=MODELDB_SYNC_HTTP__PORT=9", container, *check[1:], expect=1)
    await engine("exec", "--env=http_proxy=http://127.0.0.1:9", container, *check[1:])


async def test_sigterm_ends_it_with_status_0(container: str) -> None:
    await started(container)
    took = await stop(container)
    assert (await state(container))["ExitCode"] == 0
    assert took < 20, "the engine had to wait"
    assert (await logs(container))[-1]["event"] == "stopped"


async def test_sigterm_during_the_first_instant_is_heard() -> None:
    variables = [f"--env={name}={value}" for name, value in MINIMAL.items()]
    made = (await engine("create", *HARDENED, *variables, IMAGE)).strip()
    try:
        await engine("start", made)
        await asyncio.sleep(0.2)  # into the imports: a handler is there, the daemon is not yet
        begun = time.monotonic()
        await engine("stop", "--time", "30", made)
        assert time.monotonic() - begun < 20
        assert (await state(made))["ExitCode"] in {0, 143}
    finally:
        await engine("rm", "--force", "--volumes", made)


async def test_its_labels_tell_where_it_is_from() -> None:
    labels = json.loads(await engine("inspect", "--type=image", IMAGE))[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "sagemaker-modeldb-sync"
    assert labels["org.opencontainers.image.version"] == __version__


async def test_the_demo_is_not_in_it() -> None:
    demo = ("--entrypoint=sh", IMAGE, "-c", "sagemaker-modeldb-sync demo 2>&1; echo $?")
    *words, status = (await engine("run", "--rm", *HARDENED, *demo)).split()
    assert "the container image leaves it out" in " ".join(words)
    assert status == "2"


async def test_only_the_daemon_and_what_it_needs_is_in_it() -> None:
    script = """
import importlib.metadata as m, pathlib, shutil
print(*sorted(d.name.lower() for d in m.distributions()))
pips = pathlib.Path("/opt/modeldb-sync/bin").glob("pip*")
print(*[name for name in ("gcc", "curl", "wget") if shutil.which(name)], *map(str, pips))
print(pathlib.Path("/build").exists())
"""
    listed, tools, build = (
        await engine("run", "--rm", "--entrypoint=python", IMAGE, "-c", script)
    ).split("\n")[:3]
    assert {"sagemaker-modeldb-sync", "aiobotocore", "aiohttp", "pydantic"} <= set(listed.split())
    assert not {"boto3", "moto", "pytest", "hatchling", "pip"} & set(listed.split())
    assert (tools, build) == ("", "False")
