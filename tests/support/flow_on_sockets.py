"""The flow of a message on real sockets: the SageMaker stub, a checkpoint file and the ModelDB V2
stand-in.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from daemon.aws.clients import AwsClients, Endpoints, open_clients
from daemon.aws.ports import Message
from daemon.aws.training_jobs import SageMakerTrainingJobs
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.demo.modeldb_v2.store import Store
from daemon.intake.in_flight import InFlight
from daemon.pipeline.flow import Flow, FlowRules
from daemon.targets.registry import open_target
from tests.support.aws_vectors import HOME
from tests.support.checkpoint_calls import TARGET
from tests.support.daemon_process import CREDENTIALS
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.sagemaker_stub import SageMakerStub
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    from daemon.outcome import Outcome
    from daemon.training_job.identity import Home


@dataclass(slots=True)
class FlowOnSockets:
    """Delivers one message after another. An asynchronous context manager.

    Attributes:
        path: the checkpoint.
        stub: SageMaker.
        server: ModelDB V2.
    """

    path: Path = field(default_factory=Path)
    stub: SageMakerStub = field(default_factory=SageMakerStub)
    server: ModelDbV2StandIn = field(default_factory=ModelDbV2StandIn)
    _open: dict[str, AwsClients] = field(default_factory=dict)
    _closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _count: int = 0

    async def __aenter__(self) -> Self:
        patch = self._closing.enter_context(pytest.MonkeyPatch.context())
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        await self._closing.enter_async_context(self.stub)
        await self._closing.enter_async_context(self.server)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._closing.aclose()

    def begin(self, home: Path) -> None:
        """Starts a test with an empty checkpoint and an empty ModelDB.

        Args:
            home: the directory of the checkpoint.
        """
        self.path = home / "checkpoint.db"
        self.server.store = Store()

    async def deliver(
        self, body: str, home: Home = HOME, rules: FlowRules | None = None
    ) -> Outcome:
        """The outcome of the first receive of a message."""
        self._count += 1
        message = Message(f"message-{self._count}", "handle", body, 1, time.time())
        checkpoint = await open_sqlite_checkpoint(self.path, TARGET)
        target = open_target(settings(self.path, target_url=self.server.url).target)
        clients = await self._clients(home.region)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(checkpoint.aclose)
            stack.push_async_callback(target.aclose)
            ledger = InFlight()
            flow = Flow(
                SageMakerTrainingJobs(clients.sagemaker, home),
                checkpoint,
                target,
                ledger,
                rules or FlowRules(),
            )
            entry = ledger.add(message, 30)
            assert entry is not None
            outcome = await flow.process(entry)
            ledger.finish(entry, outcome)
            ledger.remove(entry)
        return outcome

    async def _clients(self, region: str) -> AwsClients:
        if region not in self._open:
            opening = open_clients(
                queue_url=f"{self.stub.url}/123456789012/q",
                region=region,
                endpoints=Endpoints(sagemaker=self.stub.url),
            )
            self._open[region] = await self._closing.enter_async_context(opening)
        return self._open[region]
