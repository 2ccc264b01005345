"""The kind ``modeldb-v2`` for `daemon.targets.registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.kind import TargetKind
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings

if TYPE_CHECKING:
    from daemon.targets.kind import TargetContext
    from daemon.targets.ports import Target


def _open(settings: ModelDbV2Settings, context: TargetContext) -> Target:
    from daemon.targets.modeldb_v2.target import open_modeldb_v2  # noqa: PLC0415 - see TargetKind

    return open_modeldb_v2(settings, context.observe)


async def _diagnosis(settings: ModelDbV2Settings) -> tuple[str, ...]:
    from daemon.targets.modeldb_v2.diagnosis import diagnosis  # noqa: PLC0415 - see TargetKind

    return await diagnosis(settings)


async def _clock_ahead(settings: ModelDbV2Settings) -> float | None:
    from daemon.targets.modeldb_v2.diagnosis import clock_ahead  # noqa: PLC0415 - see TargetKind

    return await clock_ahead(settings)


MODELDB_V2 = TargetKind(
    ModelDbV2Settings,
    _open,
    diagnosis=_diagnosis,
    clock_ahead=_clock_ahead,
    version="it does not tell its version; tested with 2.0.8.1",
    takes_metric_series=True,
)
