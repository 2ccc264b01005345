"""Finds or creates the experiment of a job, and lists all experiments.

MLflow keeps names of experiments unique, also those of deleted ones: a deleted experiment can
neither be written to nor created anew, so a person must restore or rename it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from daemon.clock import monotonic
from daemon.errors import JobRefused
from daemon.reasons import Reason
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.retries import until_visible
from daemon.targets.name_locks import NameLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from daemon.targets.mlflow.client import MlflowClient
    from daemon.targets.mlflow.entities import Experiment
    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.targets.ports import WriteJournal

REMEMBERED = 10_000
"""Experiments whose ids are cached."""
FRESH_SECONDS = 300.0
"""How long a cached id is used without a look whether it still has the name: people rename
experiments."""
PAGE = 1000
"""Experiments of one page, and of one search for runs."""


class Experiments:
    """Cached ids of experiments. Safe for concurrent calls."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._known: dict[str, tuple[str, float]] = {}
        self._names = NameLocks()

    async def id_of(self, mapped: MappedRun, journal: WriteJournal) -> str:
        """The id of a job's experiment, which is created if there is none.

        Raises:
            ApiError: a call failed.
            JobRefused: the experiment was deleted.
            JobFault, EdgeFault: of the journal's name locks.
        """
        name = mapped.experiment_name
        if (known := self._fresh(name)) is not None:
            return known
        async with self._in_turn(name):
            if (known := self._fresh(name)) is not None:
                return known
            found_at = monotonic()
            experiment_id = await self._found_or_created(mapped, journal)
            self._known[name] = experiment_id, found_at
            if len(self._known) > REMEMBERED:
                self._known.pop(next(iter(self._known)))
            return experiment_id

    def forget(self, name: str) -> None:
        """Drops an experiment from the cache."""
        self._known.pop(name, None)

    async def chunks_of_ids(self) -> AsyncIterator[Sequence[str]]:
        """The ids of all experiments, deleted ones included, as many at a time as one search for
        runs takes. Raises `ApiError`.
        """
        token = ""
        while True:
            found, token = await self._client.search_experiments(max_results=PAGE, page_token=token)
            if found:
                yield [experiment.id for experiment in found]
            if not token:
                return

    def _fresh(self, name: str) -> str | None:
        known = self._known.get(name)
        return known[0] if known is not None and monotonic() - known[1] < FRESH_SECONDS else None

    @contextlib.asynccontextmanager
    async def _in_turn(self, name: str) -> AsyncIterator[None]:
        """One job of this process at a time. Those that waited through an outage fail unsent."""
        outages = self._client.outages
        async with self._names.turn(name):
            self._client.refuse_if_out_since(outages, f"lookup of experiment {name}")
            yield

    async def _found_or_created(self, mapped: MappedRun, journal: WriteJournal) -> str:
        name = mapped.experiment_name
        if (found := await self._named(name)) is not None:
            return _usable(found)
        async with journal.name_lock(f"mlflow/experiment/{name}"):
            if (found := await self._named(name)) is not None:
                return _usable(found)
            try:
                return await self._client.create_experiment(name, mapped.experiment_tags)
            except ApiError as error:
                # MLflow up to 2.22 on MySQL reports a name that is taken as a database error
                if error.kind not in {ApiErrorKind.EXISTS, ApiErrorKind.DATABASE_REFUSED}:
                    raise
                if error.kind is ApiErrorKind.DATABASE_REFUSED:
                    if (found := await self._named(name)) is None:
                        raise
                    return _usable(found)
            return _usable(await until_visible(self._client.get_experiment_by_name, name))

    async def _named(self, name: str) -> Experiment | None:
        try:
            return await self._client.get_experiment_by_name(name)
        except ApiError as error:
            if error.kind is not ApiErrorKind.ABSENT:
                raise
            return None


def _usable(experiment: Experiment) -> str:
    if experiment.deleted:
        raise JobRefused(
            Reason.TARGET_REFUSED,
            f"experiment {experiment.name!r} was deleted in MLflow and keeps its name: restore it "
            f"(mlflow experiments restore --experiment-id {experiment.id}), or give the jobs "
            "another project name",
        )
    return experiment.id
