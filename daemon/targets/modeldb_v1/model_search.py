"""Finds the models of runs on a server without a metadata store.

There, the server cannot return the models of a run. After a lost answer to ``storeFitEvent``, only
``computeModelAncestry``, which takes a model's id, finds the stored model. Ids only grow, so a
model whose fit was sent when a certain id was the newest has a higher one; without that knowledge
the search goes down from the newest.

Every id is asked once per connection, for all jobs: nothing else writes, so what was read stays
true, and only ids above the newest can be added.
"""

from __future__ import annotations

import asyncio
import math
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
_WIDEST_GAP = 1
"""Ids in succession without a fit, between two with one, as `newest_model` expects them."""


class ModelIndex:
    """The models that were found by their ids; valid for the life of one connection.

    Args:
        caller: the connection.
        newest: as below, from an earlier connection.

    Attributes:
        newest: the highest id in an answer to a fit of this process; None before the first. Every
            later model has a higher one.
    """

    def __init__(self, caller: Caller, newest: int | None = None) -> None:
        self._caller = caller
        self.newest = newest
        self._by_run: dict[int, dict[int, Any]] = {}
        self._asked: range | None = None
        """The ids that were asked, up to the newest model found: an id above may be given to one
        later. Empty until a model is found; its start then says how far down a search has come."""
        self._searching = asyncio.Lock()

    def fitted(self, model_id: int) -> None:
        """A fit was answered with this id."""
        self.newest = model_id if self.newest is None else max(self.newest, model_id)

    async def find_above(self, job: MappedJob, run_id: int, model_id: int) -> StoredModel | None:
        """The job's model in a run, if its id is above a certain one and among the
        `SEARCHED_MODELS` next.

        Raises:
            CallFailed: a call failed.
        """
        async with self._searching:
            if self._asked is None:
                self._asked = range(model_id + 1, model_id + 1)
            await self._ask_up(self._asked, model_id, most=SEARCHED_MODELS)
            while (asked := self._asked).start > model_id + 1:
                await self._ask_down(asked, model_id + 1)
        return self._known(job, run_id)

    async def search(self, job: MappedJob, run_id: int) -> StoredModel:
        """The job's model in a run that is known to have one.

        Raises:
            CallFailed: `NOT_FOUND`: it is not among the newest `SEARCHED_MODELS`; or a call failed.
        """
        async with self._searching:
            if self._asked:
                await self._ask_up(self._asked, self._asked.stop - 1)
            else:
                top = await self._above_newest() + 1
                self._asked = range(top, top)
            lowest = max(1, self._asked.stop - SEARCHED_MODELS)
            while (model := self._known(job, run_id)) is None and self._asked.start > lowest:
                await self._ask_down(self._asked, lowest)
        if model is None:
            raise CallFailed(
                CallErrorKind.NOT_FOUND,
                "computeModelAncestry",
                f"run {run_id} has a model that is not among the newest {SEARCHED_MODELS}: "
                "delete nothing; look at the run",
                answered=True,
            )
        log.warning(
            "found the model of a run by trying numbers", run_id=run_id, model_id=model.model_id
        )
        return model

    def _known(self, job: MappedJob, run_id: int) -> StoredModel | None:
        """The oldest model found in the run that is the job's."""
        for _, answer in sorted(self._by_run.get(run_id, {}).items()):
            model = from_ancestry(job, run_id, answer)
            if model is not None:
                return model
        return None

    async def _ask_up(self, asked: range, at_least: int, most: float = math.inf) -> None:
        """Asks the ids above those asked, up to the newest and at least to a certain one, but not
        more than `most`. Ids without a fit are rare and isolated.
        """
        above = asked.stop
        while above - asked.stop < most:
            found = await self._ask(range(above, above + _BATCH))
            above += _BATCH
            if found is not None:
                self._asked = range(asked.start, found + 1)
            elif above > at_least:
                return

    async def _ask_down(self, asked: range, lowest: int) -> None:
        below = range(max(lowest, asked.start - _BATCH), asked.start)
        found = await self._ask(below)
        stop = asked.stop
        if not asked:  # a search begins above the newest model
            stop = below.start if found is None else found + 1
        self._asked = range(below.start, stop)

    async def _ask(self, model_ids: range) -> int | None:
        """Adds the models of these ids; the highest that is one."""
        highest = None
        answers = await ancestries(self._caller, model_ids)
        for model_id, answer in zip(model_ids, answers, strict=True):
            if answer is not None:
                self._by_run.setdefault(answer.fitEvent.experimentRunId, {})[model_id] = answer
                highest = model_id
        return highest

    async def _above_newest(self) -> int:
        """An id not below any model's, by galloping search. Ids without a fit are rare and
        isolated.
        """
        low, step = self.newest or 0, _BATCH
        if low and (await ancestries(self._caller, [low])) == [None]:
            low = 0  # the server's database was replaced by one with fewer models
        while await self._any_above(low + step):
            low, step = low + step, step * 2
        high = low + step
        while high - low > _BATCH:
            middle = (low + high) // 2
            low, high = (middle, high) if await self._any_above(middle) else (low, middle)
        return high + _BATCH

    async def _any_above(self, model_id: int) -> bool:
        """Whether one of the `_BATCH` next ids has a model."""
        following = range(model_id + 1, model_id + 1 + _BATCH)
        return any(answer is not None for answer in await ancestries(self._caller, following))


async def newest_model(caller: Caller, known: int = 0) -> int:
    """The highest id of a model; 0 if there is none. Found by galloping search, with few ids per
    step, because the server logs a stack trace for each that it does not know.

    Args:
        caller: a connection.
        known: the id of a model that there was earlier.

    Raises:
        CallFailed: a call failed.
    """

    async def first_from(model_id: int) -> int | None:
        following = range(model_id, model_id + _WIDEST_GAP + 1)
        answers = await ancestries(caller, following)
        found = zip(following, answers, strict=True)
        return next((each for each, answer in found if answer is not None), None)

    low = await first_from(known) if known else 0
    low, step = low or 0, 1
    while (found := await first_from(low + step)) is not None:
        low, step = found, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        found = await first_from(middle)
        low, high = (low, middle) if found is None else (found, high)
    return low


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
