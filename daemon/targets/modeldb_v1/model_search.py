"""Finds the model of a run on a server without a metadata store.

There, the server cannot return the models of a run. After a lost answer to ``storeFitEvent``, only
``computeModelAncestry``, which takes a model's id, finds the stored model. The search goes down
from the newest id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.readback import from_ancestry
from daemon.targets.modeldb_v1.run_index import all_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemon.targets.modeldb_v1.mapping import MappedJob
    from daemon.targets.modeldb_v1.readback import StoredModel
    from daemon.targets.modeldb_v1.run_index import Caller

log = structlog.get_logger(__name__)

SEARCHED_MODELS = 10_000
"""The number of newest model ids to try."""
_BATCH = 32
"""Ids per round trip."""


async def search_model(caller: Caller, job: MappedJob, run_id: int) -> StoredModel:
    """The job's model in a run that is known to have one.

    Raises:
        CallFailed: `NOT_FOUND`: it is not among the newest `SEARCHED_MODELS`; or a call failed.
    """
    newest = await _above_newest_model(caller)
    for top in range(newest, max(0, newest - SEARCHED_MODELS), -_BATCH):
        for answer in await ancestries(caller, range(top, max(0, top - _BATCH), -1)):
            model = None if answer is None else from_ancestry(job, run_id, answer)
            if model is not None:
                log.warning(
                    "found the model of a run by trying numbers",
                    run_id=run_id,
                    model_id=model.model_id,
                )
                return model
    raise CallFailed(
        CallErrorKind.NOT_FOUND,
        "computeModelAncestry",
        f"run {run_id} has a model that is not among the newest {SEARCHED_MODELS}: "
        "delete nothing; look at the run",
        answered=True,
    )


async def ancestries(caller: Caller, model_ids: Iterable[int]) -> list[Any]:
    """The ancestry of each model; None for an id without a fit.

    Raises:
        CallFailed: a call failed.
    """

    async def ask(model_id: int) -> Any:  # noqa: ANN401 - a Thrift struct
        try:
            return await caller.call("computeModelAncestry", modelId=model_id)
        except CallFailed as failed:
            if failed.kind in {CallErrorKind.NOT_FOUND, CallErrorKind.TWIN_ROWS}:
                return None
            raise

    return await all_of([ask(model_id) for model_id in model_ids])


async def _above_newest_model(caller: Caller) -> int:
    """An id not below any model's, by galloping search. Ids without a fit are rare and isolated."""
    low, high = 0, _BATCH
    while await _any_model_above(caller, high):
        low, high = high, high * 2
    while high - low > _BATCH:
        middle = (low + high) // 2
        low, high = (middle, high) if await _any_model_above(caller, middle) else (low, middle)
    return high + _BATCH


async def _any_model_above(caller: Caller, model_id: int) -> bool:
    """Whether one of the `_BATCH` next ids has a model."""
    following = range(model_id + 1, model_id + 1 + _BATCH)
    return any(answer is not None for answer in await ancestries(caller, following))
