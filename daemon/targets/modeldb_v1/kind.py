"""The kind ``modeldb-v1`` for `daemon.targets.registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.kind import TargetKind
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings

if TYPE_CHECKING:
    from daemon.targets.kind import TargetContext
    from daemon.targets.ports import Target


def _open(settings: ModelDbV1Settings, context: TargetContext) -> Target:
    from daemon.targets.modeldb_v1.target import open_modeldb_v1  # noqa: PLC0415 - see TargetKind

    return open_modeldb_v1(settings, context.observe, context.permit)


def _advice(settings: ModelDbV1Settings) -> tuple[str, ...]:
    from daemon.targets.modeldb_v1.diagnosis import advice  # noqa: PLC0415 - see TargetKind

    return advice(settings)


async def _diagnosis(settings: ModelDbV1Settings) -> tuple[str, ...]:
    from daemon.targets.modeldb_v1.diagnosis import diagnosis  # noqa: PLC0415 - see TargetKind

    return await diagnosis(settings)


MODELDB_V1 = TargetKind(
    ModelDbV1Settings,
    _open,
    _advice,
    _diagnosis,
    version="it tells neither its version nor the time; tested with 1.0.0",
)
