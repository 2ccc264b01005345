"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import signal
import socket
import threading
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from pathlib import Path

    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

# Assertions of the suite tell what they compare, although it is no test module itself.
pytest.register_assert_rewrite("tests.targets.suite")

# Before any AWS library is imported: no test may find real credentials or ask for an instance's.
for name in [name for name in os.environ if name.startswith(("AWS_", "MODELDB_SYNC_"))]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull

# A shell without job control starts a background command with SIGINT ignored, which the processes
# that the tests start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escapes lone surrogates in captured output, which pytest-xdist cannot send."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def nothing_counts_down() -> Iterator[None]:
    """Fails a test that leaves a timer running: that of `daemon.cli.run` would end the process of
    the tests half a minute later, in the middle of another one.
    """
    yield
    left = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in left:
        timer.cancel()
    assert not left


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The server of moto on a free port of the loopback interface."""
    from moto.server import ThreadedMotoServer

    from daemon.demo.moto_fixes import make_deletes_atomic

    make_deletes_atomic()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports that were free a moment ago."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
async def modeldb() -> AsyncIterator[ModelDbV2StandIn]:
    """A ModelDB V2 that tells quickly that its database is down."""
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

    async with ModelDbV2StandIn() as server:
        server.faults.database_answer_seconds = 0.05
        yield server


@pytest.fixture
async def scene(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    """Everything that a daemon needs, with a queue of its own."""
    from tests.support.daemon_process import daemon_scene

    async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made
