"""The kind ``mlflow`` for `daemon.targets.registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.kind import ServerFacts, TargetKind
from daemon.targets.mlflow.settings import MlflowSettings

if TYPE_CHECKING:
    from daemon.targets.kind import TargetContext
    from daemon.targets.ports import Target


def _open(settings: MlflowSettings, context: TargetContext) -> Target:
    from daemon.targets.mlflow.target import open_mlflow  # noqa: PLC0415 - see TargetKind

    return open_mlflow(settings, context)


def _advice(settings: MlflowSettings) -> tuple[str, ...]:
    from daemon.targets.mlflow.diagnosis import advice  # noqa: PLC0415 - see TargetKind

    return advice(settings)


async def _diagnosis(settings: MlflowSettings) -> tuple[str, ...]:
    from daemon.targets.mlflow.diagnosis import diagnosis  # noqa: PLC0415 - see TargetKind

    return await diagnosis(settings)


async def _server_facts(settings: MlflowSettings, context: TargetContext) -> ServerFacts:
    from daemon.targets.mlflow.diagnosis import server_facts  # noqa: PLC0415 - see TargetKind

    return await server_facts(settings, context)


MLFLOW = TargetKind(
    MlflowSettings,
    _open,
    _advice,
    _diagnosis,
    server_facts=_server_facts,
    version="it does not tell its version; tested with MLflow 3.17.2 and 2.22.5",
    takes_metric_series=True,
)
