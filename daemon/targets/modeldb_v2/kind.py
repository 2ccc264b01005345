"""The kind ``modeldb-v2`` for `daemon.targets.registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.kind import TargetKind
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings

if TYPE_CHECKING:
    from daemon.targets.kind import Observe
    from daemon.targets.ports import Target, WritePermit


def _open(settings: ModelDbV2Settings, observe: Observe, _permit: WritePermit) -> Target:
    from daemon.targets.modeldb_v2.target import open_modeldb_v2  # noqa: PLC0415 - see TargetKind

    return open_modeldb_v2(settings, observe)


async def _diagnosis(settings: ModelDbV2Settings) -> tuple[str, ...]:
    from daemon.targets.modeldb_v2.diagnosis import diagnosis  # noqa: PLC0415 - see TargetKind

    return await diagnosis(settings)


MODELDB_V2 = TargetKind(ModelDbV2Settings, _open, diagnosis=_diagnosis, takes_metric_series=True)
