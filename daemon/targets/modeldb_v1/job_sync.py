"""One attempt to write one job as exactly one complete run. Start reading at `JobSync.sync`.

A run takes several calls: project, experiment, run, fit, further data frames, metrics; few of them
are idempotent. What was answered is recorded in the journal. What was sent without an answer is
looked up: the run by its mark in the index of the connection, the model and the metrics in the
run's details. Then only what is missing is sent, and finally the run is read back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.model_search import ancestries
from daemon.targets.modeldb_v1.pairing import ForeignDocument
from daemon.targets.modeldb_v1.readback import (
    StoredModel,
    data_frames_of_metrics,
    from_ancestry,
    from_details,
    missing_metrics,
)
from daemon.targets.modeldb_v1.run_index import FoundRun, oldest_project, raise_first
from daemon.targets.modeldb_v1.sendable import refuse_what_cannot_be_sent
from daemon.targets.ports import TargetRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from daemon.targets.modeldb_v1.connection import Connection
    from daemon.targets.modeldb_v1.mapping import MappedJob
    from daemon.targets.modeldb_v1.run_index import Project
    from daemon.targets.modeldb_v1.write_session import Term
    from daemon.targets.ports import WriteJournal

log = structlog.get_logger(__name__)

FITS_OF_ONE_RUN = 2
"""After this many answered fits whose model does not read back as written, the last one is accepted
as it is: more would not help."""

_WITHOUT_DOCUMENT = "without document"
"""Step of a fit whose metadata the server could not store: its SQL part is complete, so the fit can
be sent again to add them."""
_FIT_AFTER = "fit_after"
"""Step before a fit: the newest model then, so that a fit whose answer is lost is above it."""
_HAS_MODEL = "has_model"
"""Step of a run found to have a model, which takes 30 s to learn without a metadata store."""
_METRICS = "metrics"
"""Step of the metrics that were answered, by their numbers: without a metadata store they cannot be
read."""
_METADATA_MISSING = (
    "the model's metadata are missing in ModelDB: the server ended while it stored them"
)


@dataclass(frozen=True, slots=True)
class _Placed:
    run: FoundRun
    created: bool


class JobSync:
    """Writes one job; see the module docstring.

    Args:
        server_id: the server's name in the checkpoint.
        term: the settled write connection.
        connect_to_read: opens another connection, for reads that may take 30 s.
        job: what to write.
        journal: records the steps.
        metadata_store: whether the server has one.
    """

    def __init__(
        self,
        server_id: str,
        term: Term,
        connect_to_read: Callable[[], Awaitable[Connection]],
        job: MappedJob,
        journal: WriteJournal,
        *,
        metadata_store: bool,
    ) -> None:
        self._server_id = server_id
        self._connection = term.connection
        self._index = term.run_index
        self._models = term.model_index
        self._connect_to_read = connect_to_read
        self._job = job
        self._journal = journal
        self._metadata_store = metadata_store
        self._notes: list[str] = list(job.notes)
        self._accepted_as_is = False

    async def sync(self) -> TargetRun:
        """Writes what is missing of the job.

        Returns:
            The job's run, complete.

        Raises:
            CallFailed: a call failed.
            LeaseLost, NameLocked, EdgeFault: raised by the journal.
        """
        refuse_what_cannot_be_sent(self._job)
        found = await self._look_up()
        mark = self._job.mark
        await self._journal.begin_write(
            f"modeldb-v1/run/{self._server_id}/{mark.short_hash}/{mark.job_name}"
        )
        if found is None:
            await self._forget_lost_run()
            placed = _Placed(await self._make_run(), created=True)
        else:
            placed = _Placed(found, created=False)
        await self._note_run(placed)
        model = None if placed.created else await self._stored_model(placed.run)
        fitted = model is None
        if model is None:
            model, data_frames = await self._fit(placed.run)
            missing = list(range(len(self._job.metrics)))
        else:
            model = await self._with_document(placed.run, model)
            data_frames = await self._data_frames(placed.run, model)
            missing = self._missing_metrics(model, data_frames)
        await self._send_metrics(placed.run, model, data_frames, missing)
        if fitted or missing:  # otherwise the run has just been read
            await self._read_back(placed.run, model, data_frames)
        self._journal.settled()
        ids = {
            "project_id": str(placed.run.project_id),
            "experiment_id": str(placed.run.experiment_id),
            "run_id": str(placed.run.run_id),
            "model_id": str(model.model_id),
        }
        return TargetRun(placed.created, ids, notes=tuple(self._notes))

    # --- the run ----------------------------------------------------------------------------------

    async def _look_up(self) -> FoundRun | None:
        if self._journal.look_up_first or self._journal.unanswered_writes:
            return await self._index.marked_anywhere(self._job.marker)
        await self._index.project(self._job.project_name, self._job.project_user)
        return self._index.marked(self._job.marker)

    async def _make_run(self) -> FoundRun:
        name, author = self._job.project_name, self._job.project_user
        project = None
        try:
            project = await self._index.project(name, author)
            run = await self._first_run(project) or await self._store_run(project)
            await self._prove_own(run)
        except BaseException:
            self._index.forget(name, author, project)
            raise
        return run

    async def _first_run(self, project: Project) -> FoundRun | None:
        """Stores the run together with project and experiment; None if those are known."""
        if project.is_made():
            return None
        # back to back: a project without a run breaks the server's start page
        async with project.making:
            if project.is_made():
                return None
            await self._make_place(project)
            return await self._store_run(project)

    async def _make_place(self, project: Project) -> None:
        """Finds or creates the project and its default experiment."""
        if project.id is None:
            key = {"name": self._job.project_name, "author": self._job.project_user}
            project.id = await oldest_project(
                self._connection, requests.project_event(self._job), key
            )
        answer = await self._connection.call(
            "storeExperimentEvent", er=requests.default_experiment_event(project.id)
        )
        if answer.experimentId < 1:  # the project has none
            answer = await self._connection.call(
                "storeExperimentEvent", er=requests.named_experiment_event(project.id)
            )
        project.experiment_id = answer.experimentId

    async def _store_run(self, project: Project) -> FoundRun:
        assert project.id is not None  # noqa: S101 - set before; for the type checker
        assert project.experiment_id is not None  # noqa: S101 - as above
        answer = await self._connection.call(
            "storeExperimentRunEvent", er=requests.run_event(project.experiment_id, self._job)
        )
        return FoundRun(project.id, project.experiment_id, answer.experimentRunId)

    async def _prove_own(self, run: FoundRun) -> None:
        """Reads the new run back: with another writer, the server may return another run's id."""
        details = await self._connection.call("getExperimentRunDetails", experimentRunId=run.run_id)
        if (
            details.experimentRun.description != self._job.marker
            or details.project.id != run.project_id
            or details.modelResponses
        ):
            raise _mixed_up(
                "storeExperimentRunEvent",
                f"run {run.run_id} was returned for a new one and is another job's",
            )
        self._index.add(self._job.marker, run)
        # what people wrote stays, and so does the description of the project's first job
        if not details.project.description and self._job.project_description:
            await self._connection.call(
                "updateProject",
                projectId=run.project_id,
                key="description",
                value=self._job.project_description,
            )

    # --- the model --------------------------------------------------------------------------------

    async def _fit(self, run: FoundRun) -> tuple[StoredModel, list[int]]:
        """Stores the model with its training data, and the other channels, concurrently.

        Returns:
            The model, and the ids of the data frames by channel.
        """
        others = range(1, len(self._job.data_frames))
        if newest := self._newest_model_step():
            await self._journal.note_steps(newest)
        fit = self._connection.call("storeFitEvent", fe=requests.fit_event(run.run_id, self._job))
        answers: list[Any] = await asyncio.gather(
            fit, *self._storing(run, others), return_exceptions=True
        )
        answer, *frames = answers
        steps = _frame_steps(dict(zip(others, frames, strict=True)))
        if isinstance(answer, CallFailed) and answer.kind is CallErrorKind.METADATA_STORE_DOWN:
            steps["fit"] = _WITHOUT_DOCUMENT
        elif not isinstance(answer, BaseException):
            self._models.fitted(answer.modelId)
            steps |= {
                "model_id": str(answer.modelId),
                "fits": str(self._fits + 1),
                **({_METRICS: ""} if _METRICS in self._journal.steps else {}),
                **_frame_steps({0: answer.dfId}),
            }
        await self._note_answers(answers, steps)
        return StoredModel(answer.modelId, answer.dfId, {}, has_document=True), [
            answer.dfId,
            *frames,
        ]

    def _storing(self, run: FoundRun, channels: Iterable[int]) -> list[Awaitable[Any]]:
        """The calls that store the data frames of these channels."""
        frames = [requests.data_frame(self._job.data_frames[channel]) for channel in channels]
        return [
            self._connection.call("storeDataFrame", df=frame, experimentRunId=run.run_id)
            for frame in frames
        ]

    async def _stored_model(self, run: FoundRun) -> StoredModel | None:
        """The job's model in an existing run; None if it must be stored."""
        noted = self._noted("model_id")
        if noted is not None and not self._metadata_store:
            (answer,) = await ancestries(self._connection, [noted])
            if answer is not None and answer.fitEvent.experimentRunId == run.run_id:
                return from_ancestry(self._job, run.run_id, answer) or self._accept_as_is(
                    noted, answer.fitEvent.df.id
                )
        if not self._metadata_store and (found := await self._model_by_number(run)) is not None:
            return found
        try:
            details = await self._details(run)
        except CallFailed as failed:
            if failed.kind is not CallErrorKind.METADATA_STORE_DOWN or self._metadata_store:
                raise
            # reading a run needs the metadata store only if the run has a model, so it has one
            await self._journal.note_steps({_HAS_MODEL: "yes"})
            return await self._models.search(self._job, run.run_id)
        if (model := from_details(self._job, details.modelResponses)) is not None:
            _refuse_foreign_document(run, model)
            return model
        if noted is None:
            return None
        frames = {each.id: each.trainingDataFrame.id for each in details.modelResponses}
        return self._accept_as_is(noted, frames.get(noted, self._noted("data_frame_0") or 0))

    async def _model_by_number(self, run: FoundRun) -> StoredModel | None:
        """The model as far as it is found without a read that takes 30 s."""
        if (newest := self._noted(_FIT_AFTER)) is not None:
            model = await self._models.find_above(self._job, run.run_id, newest)
            if model is not None:
                return model
        if self._journal.steps.get(_HAS_MODEL):
            return await self._models.search(self._job, run.run_id)
        return None

    def _accept_as_is(self, model_id: int, data_frame_id: int) -> StoredModel | None:
        """A model of ours that does not read back as written; None if another fit may fix that."""
        if self._fits < FITS_OF_ONE_RUN:
            return None
        self._notes.append(
            f"model {model_id} in ModelDB differs from what was written: another program writes "
            "to the server"
        )
        log.error("a model does not read back as it was written", model_id=model_id)
        self._accepted_as_is = True
        return StoredModel(model_id, data_frame_id, None, has_document=True)

    async def _details(self, run: FoundRun) -> Any:  # noqa: ANN401 - a Thrift struct
        if self._metadata_store:
            return await self._connection.call(
                "getExperimentRunDetails", experimentRunId=run.run_id
            )
        # the answer comes after all requests of cancelled attempts have been executed
        await self._connection.call("testConnection")
        # the answer may take 30 s, which would block all other calls
        reading = await self._connect_to_read()
        try:
            return await reading.call("getExperimentRunDetails", experimentRunId=run.run_id)
        finally:
            await reading.aclose()

    async def _with_document(self, run: FoundRun, model: StoredModel) -> StoredModel:
        """Adds metadata that could not be stored together with the model."""
        if not self._metadata_store or model.has_document or self._job.metadata is None:
            return model
        if not self._fits and self._journal.steps.get("fit") != _WITHOUT_DOCUMENT:
            # after a crash of the server, a repeated fit could become two, and then no read of the
            # run works any more
            if _METADATA_MISSING not in self._notes:
                self._notes.append(_METADATA_MISSING)
                log.warning(
                    "a model has no metadata and is left without",
                    run_id=run.run_id,
                    model_id=model.model_id,
                )
            return model
        await self._connection.call(
            "storeFitEvent", fe=requests.fit_event(run.run_id, self._job, model_id=model.model_id)
        )
        return model

    async def _data_frames(self, run: FoundRun, model: StoredModel) -> list[int]:
        """The ids of the data frames by channel; those with unknown ids are stored again."""
        known = {0: model.data_frame_id, **data_frames_of_metrics(self._job, model)}
        for channel in range(1, len(self._job.data_frames)):
            noted = self._noted(f"data_frame_{channel}")
            if noted is not None:
                known[channel] = noted
        unknown = [channel for channel in range(len(self._job.data_frames)) if channel not in known]
        stored: list[Any] = await asyncio.gather(
            *self._storing(run, unknown), return_exceptions=True
        )
        known.update(zip(unknown, stored, strict=True))
        await self._note_answers(
            stored,
            {"model_id": str(model.model_id), "fits": str(self._fits), **_frame_steps(known)},
        )
        return [known[channel] for channel in range(len(self._job.data_frames))]

    # --- the journal ------------------------------------------------------------------------------

    @property
    def _fits(self) -> int:
        return self._noted("fits") or 0

    def _noted(self, word: str) -> int | None:
        text = self._journal.steps.get(word, "")
        return int(text) if text.isdecimal() else None

    async def _forget_lost_run(self) -> None:
        """Before a run is made anew: drops the steps of one that is gone, whose ids may soon be
        those of other rows.
        """
        run_id = self._noted("run_id")
        if run_id is None:
            return
        log.warning("ModelDB V1 was reset: the run of an unfinished job is gone", run_id=run_id)
        await self._journal.note_steps(dict.fromkeys(self._journal.steps, ""))

    async def _note_run(self, placed: _Placed) -> None:
        """Records the run. Drops steps of another run: the server's database was replaced."""
        run = placed.run
        steps = {
            "project_id": str(run.project_id),
            "experiment_id": str(run.experiment_id),
            "run_id": str(run.run_id),
        }
        if placed.created or self._journal.steps.get("run_id") != steps["run_id"]:
            forgotten = dict.fromkeys(self._journal.steps, "")
            newest = self._newest_model_step(anew=True)
            await self._journal.note_steps({**forgotten, **steps, **newest})

    def _newest_model_step(self, *, anew: bool = False) -> dict[str, str]:
        """The step before a fit; empty if it is not needed, known or was noted before."""
        newest = self._models.newest
        if self._metadata_store or newest is None:
            return {}
        noted = None if anew else self._noted(_FIT_AFTER)
        return {_FIT_AFTER: str(newest)} if noted is None else {}

    async def _note_answers(self, answers: Sequence[Any], steps: Mapping[str, str]) -> None:
        """Records steps of concurrent calls, even if some failed; then raises the first error."""
        mixed_up = any(
            isinstance(each, CallFailed) and each.kind is CallErrorKind.OTHER_WRITER
            for each in answers
        )
        if not mixed_up and any(
            self._journal.steps.get(word) != value for word, value in steps.items()
        ):
            await self._journal.note_steps(steps)
        raise_first(answers)

    # --- metrics ----------------------------------------------------------------------------------

    async def _send_metrics(
        self, run: FoundRun, model: StoredModel, data_frames: Sequence[int], missing: Sequence[int]
    ) -> None:
        metrics = [self._job.metrics[number] for number in missing]
        events = [
            requests.metric_event(run.run_id, model.model_id, data_frames[metric.channel], metric)
            for metric in metrics
        ]
        answers = await asyncio.gather(
            *(self._connection.call("storeMetricEvent", me=event) for event in events),
            return_exceptions=True,
        )
        answered = [
            number
            for number, answer in zip(missing, answers, strict=True)
            if not isinstance(answer, BaseException)
        ]
        if not self._metadata_store and answered:
            known = sorted({*self._answered_metrics(), *answered})
            await self._journal.note_steps({_METRICS: " ".join(map(str, known))})
        raise_first(answers)

    def _missing_metrics(self, model: StoredModel, data_frames: Sequence[int]) -> list[int]:
        """Numbers of the job's metrics that the model lacks, as far as that can be known."""
        missing = missing_metrics(self._job, model, data_frames)
        if model.metrics is not None or self._noted("model_id") != model.model_id:
            return missing
        answered = self._answered_metrics()
        return [number for number in missing if number not in answered]

    def _answered_metrics(self) -> set[int]:
        return {int(number) for number in self._journal.steps.get(_METRICS, "").split()}

    async def _read_back(
        self, run: FoundRun, model: StoredModel, data_frames: Sequence[int]
    ) -> None:
        """Verifies that the run reads back as written, unless the model was accepted as it is."""
        if self._accepted_as_is:
            return
        if not self._metadata_store:
            (answer,) = await ancestries(self._connection, [model.model_id])
            found = None if answer is None else from_ancestry(self._job, run.run_id, answer)
            if found is None and self._accept_as_is(model.model_id, model.data_frame_id) is None:
                raise _mixed_up(
                    "storeFitEvent",
                    f"model {model.model_id} was returned for a new one and is not in run "
                    f"{run.run_id}",
                )
            return
        details = await self._connection.call("getExperimentRunDetails", experimentRunId=run.run_id)
        stored = from_details(self._job, details.modelResponses)
        if stored is None or missing_metrics(self._job, stored, data_frames):
            raise _mixed_up(
                "storeFitEvent",
                f"run {run.run_id} lacks the model and metrics that were just written to it",
            )
        _refuse_foreign_document(run, stored)
        # a metadata store that was killed may have lost its newest documents
        await self._with_document(run, stored)


def _frame_steps(data_frames: Mapping[int, Any]) -> dict[str, str]:
    """Steps of the data frames by channel, without those whose call failed."""
    return {
        f"data_frame_{channel}": str(frame)
        for channel, frame in data_frames.items()
        if not isinstance(frame, BaseException)
    }


def _refuse_foreign_document(run: FoundRun, model: StoredModel) -> None:
    if model.other_owner is not None:
        raise ForeignDocument(
            "getExperimentRunDetails", run.run_id, model.model_id, model.other_owner
        )


def _mixed_up(method: str, detail: str) -> CallFailed:
    return CallFailed(CallErrorKind.OTHER_WRITER, method, detail, answered=True)
