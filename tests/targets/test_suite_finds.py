"""Targets that break one promise each, and the test of the suite that finds it."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import EdgeFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.targets.ports import Preview, Repair, TargetRun
from tests.targets.jobs import suite_job
from tests.targets.modeldb_v2_scene import ModelDbV2Scene
from tests.targets.suite import TargetSuite

if TYPE_CHECKING:
    from daemon.targets.ports import Target, WriteJournal
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun
    from tests.targets.scene import TargetScene


class Broken:
    """A target that keeps all promises, for others to break one."""

    kind = "modeldb-v2"

    def __init__(self, target: Target) -> None:
        self.target = target

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        return await self.target.sync(run, journal)

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        return await self.target.find(mark, unanswered_writes=unanswered_writes)

    def preview(self, run: TrainingRun) -> Preview:
        return self.target.preview(run)

    async def compare(self, run: TrainingRun) -> Repair | None:
        return await self.target.compare(run)

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        return await self.target.repair(run, journal)

    async def probe(self) -> None:
        await self.target.probe()

    async def aclose(self) -> None:
        await self.target.aclose()


class Journal:
    """Forwards every call to another journal; subclasses drop some of them."""

    def __init__(self, journal: WriteJournal) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


class AnnouncesNothing(Broken):
    class _Journal(Journal):
        async def begin_write(self, _lock_name: str) -> None:
            pass

        def answered(self) -> None:
            pass

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        return await self.target.sync(run, self._Journal(journal))


class TakesSilenceForAnAnswer(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        try:
            return await self.target.sync(run, journal)
        except EdgeFault:
            if journal.unanswered_writes:
                journal.answered()
            raise


class ForgetsWhatWasUnanswered(Broken):
    class _Journal(Journal):
        look_up_first = False
        unanswered_writes = 0

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        return await self.target.sync(run, self._Journal(journal))


class TakesTheArnForTheMark(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        return await self.target.sync(replace(run, mark=suite_job().mark), journal)


class OverwritesPeople(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        done = await self.target.sync(run, journal)
        if not done.created:
            client = self.target._client  # type: ignore[attr-defined]  # of ModelDB V2
            await client.delete_run_tags(done.ids["run_id"], ["by hand"])
        return done


class LeavesMetricsOut(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        return await self.target.sync(replace(run, metrics=run.metrics[:-1]), journal)


class RefusesInAnOutage(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        try:
            return await self.target.sync(run, journal)
        except EdgeFault as fault:
            raise JobRefused(Reason.TARGET_REFUSED, fault.detail) from fault


class HoldsWhatIsRefused(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        try:
            return await self.target.sync(run, journal)
        except JobRefused as refused:
            raise EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, refused.detail) from refused


class ProbesNothing(Broken):
    async def probe(self) -> None:
        pass


class FindsWithoutWaiting(Broken):
    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        del unanswered_writes
        return await self.target.find(mark)


class PromisesMore(Broken):
    def preview(self, run: TrainingRun) -> Preview:
        return self.target.preview(replace(run, failure_reason="none"))


class RepairsNothing(Broken):
    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        found = await self.target.compare(run)
        return Repair(await self.sync(run, journal)) if found is None else found


class SwallowsTheJournal(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        with contextlib.suppress(Exception):
            return await self.target.sync(run, journal)
        raise EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, "something went wrong")


class SaysItsLogin(Broken):
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        try:
            return await self.target.sync(run, journal)
        except JobRefused as refused:
            words = f"{refused.detail} (sent: {(ModelDbV2Scene.login or '').split()[-1]})"
            raise JobRefused(Reason.TARGET_REFUSED, words) from refused


FOUND = {
    AnnouncesNothing: "test_no_write_that_the_journal_refuses",
    TakesSilenceForAnAnswer: "test_an_answer_lost_after_the_write",
    ForgetsWhatWasUnanswered: "test_a_lost_checkpoint_and_other_tags_make_no_second_run",
    TakesTheArnForTheMark: "test_a_job_created_again_under_its_arn_is_another_run",
    OverwritesPeople: "test_a_job_that_is_there_is_found_and_left_alone",
    LeavesMetricsOut: "test_a_new_job_is_written_completely",
    RefusesInAnOutage: "test_edge_down",
    HoldsWhatIsRefused: "test_a_job_refused_for_good",
    ProbesNothing: "test_edge_web_page",
    FindsWithoutWaiting: "test_find_waits_for_unanswered_writes",
    PromisesMore: "test_the_preview_is_what_sync_writes",
    RepairsNothing: "test_repair_of_a_damaged_run",
    SwallowsTheJournal: "test_no_write_that_the_journal_refuses",
    SaysItsLogin: "test_the_login_shows_nowhere",
}


@pytest.mark.parametrize(("broken", "test"), FOUND.items())
async def test_a_broken_promise_is_found(
    broken: type[Broken],
    test: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"failure": "storage", "caplog": caplog, "capsys": capsys}
    function = getattr(TargetSuite(), test)
    arguments = {
        name: given[name] for name in inspect.signature(function).parameters if name in given
    }
    async with ModelDbV2Scene() as scene:
        await function(scene=scene, **arguments)  # with the target itself it passes
    async with _scene_of(broken) as scene:
        with pytest.raises((AssertionError, pytest.fail.Exception, EdgeFault, JobRefused)):
            await function(scene=scene, **arguments)


def _scene_of(broken: type[Broken]) -> TargetScene:
    class Scene(ModelDbV2Scene):
        async def open(self, *, timeout_seconds: float | None = None) -> Target:
            return broken(await super().open(timeout_seconds=timeout_seconds))

    return Scene()
