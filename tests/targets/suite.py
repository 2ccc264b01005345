"""The suite that every target passes: what `daemon.targets.ports.Target` promises, as tests.

A kind of target takes part with a scene and a class:

    class TestMyTarget(TargetSuite):
        new_scene = MyScene

Nothing here knows a kind of target. What a target cannot have (a file has no network) is named in
`TargetScene.cannot` and shows up as a skip with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from daemon.checkpoint.ports import LeaseLost
from daemon.errors import DaemonError, EdgeFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.training_job.training_run import Hyperparameter, Metric
from tests.support.training_runs import run_of
from tests.targets.jobs import CREATED, HOSTILE, hostile_job, longest_job, suite_job
from tests.targets.journal import Locks, SuiteJournal
from tests.targets.scene import NO_MARK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence

    from daemon.targets.ports import Target, TargetRun
    from daemon.training_job.training_run import TrainingRun
    from tests.targets.scene import StoredRun, TargetScene

IMPATIENT_SECONDS = 1.0
"""Deadline of calls in the tests in which a server says nothing."""
MANY_WRITES = 5
"""More creates than one run has, so that one without an answer may still be on its way."""
NO_LONGER = {Reason.LEASE_LOST, Reason.UNREACHABLE}
"""What a process says that may not write any more: its lease has ended, or, of a single writer, its
connection was cut."""
MOST_SUSPENSIONS = 400
"""More than any attempt at a job has."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,63}")
_MOST_WORDS = 40


class TargetSuite:
    """Derive a class from it and set `new_scene`."""

    new_scene: ClassVar[type[TargetScene]]

    @pytest.fixture
    def _possible(self, request: pytest.FixtureRequest) -> None:
        reason = self.new_scene().cannot.get(request.node.originalname)
        if reason is not None:
            pytest.skip(reason)

    @pytest.fixture
    async def scene(self, _possible: None) -> AsyncIterator[TargetScene]:
        async with self.new_scene() as scene:
            yield scene

    def test_every_exception_names_a_test(self) -> None:
        cannot = self.new_scene().cannot
        assert [name for name in cannot if not hasattr(TargetSuite, name)] == []
        assert all(cannot.values())

    # --- a job, once ------------------------------------------------------------------------------

    async def test_a_new_job_is_written_completely(self, scene: TargetScene) -> None:
        target, run, journal = await scene.open(), suite_job(), SuiteJournal()
        done = await target.sync(run, journal)
        (stored,) = await scene.runs()
        is_complete(stored, run)
        assert (target.kind, done.created, done.complete) == (scene.kind, True, True)
        assert journal.unanswered_writes == 0
        assert journal.calls.count("begin_write") >= 1

    async def test_ids_and_remarks_are_texts(self, scene: TargetScene) -> None:
        target = await scene.open()
        done = await target.sync(suite_job(), SuiteJournal())
        assert done.ids["run_id"]
        assert {type(text) for item in done.ids.items() for text in item} == {str}
        assert all(done.ids.values())
        assert not [note for note in (*done.notes, done.detail) if "\n" in note]

    async def test_a_job_that_is_there_is_found_and_left_alone(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        first = await target.sync(run, SuiteJournal())
        (before,) = await scene.runs()
        by_hand = await scene.add_by_hand(before.key)
        again = await target.sync(run, SuiteJournal())
        (after,) = await scene.runs()
        assert (again.created, again.healed) == (False, 0)
        same_run(again, first)
        assert by_hand in after.texts
        is_complete(after, run)

    async def test_a_lost_checkpoint_makes_no_second_run(self, scene: TargetScene) -> None:
        run = suite_job()
        first = await (await scene.open()).sync(run, SuiteJournal())
        journal = SuiteJournal(look_up_first=True)
        again = await (await scene.open()).sync(run, journal)
        assert not again.created
        same_run(again, first)
        assert len(await scene.runs()) == 1
        assert journal.unanswered_writes == 0

    async def test_a_lost_checkpoint_and_other_tags_make_no_second_run(
        self, scene: TargetScene
    ) -> None:
        first = await (await scene.open()).sync(suite_job(), SuiteJournal())
        renamed = suite_job(project_name="another project")
        again = await (await scene.open()).sync(renamed, SuiteJournal(look_up_first=True))
        assert not again.created
        same_run(again, first)
        assert len(await scene.runs()) == 1

    async def test_a_job_created_again_under_its_arn_is_another_run(
        self, scene: TargetScene
    ) -> None:
        target = await scene.open()
        first, second = suite_job(), suite_job(created=CREATED + timedelta(days=30))
        done = [await target.sync(run, SuiteJournal()) for run in (first, second)]
        assert [each.created for each in done] == [True, True]
        stored = await scene.runs()
        assert {each.mark for each in stored} == {first.mark, second.mark}
        for run, each in zip((first, second), done, strict=True):
            is_complete(of(stored, run), run)
            found = await target.find(run.mark)
            assert found is not None
            same_run(found, each)
            same_run(await target.sync(run, SuiteJournal(look_up_first=True)), each)
        assert len(await scene.runs()) == 2

    async def test_a_name_taken_by_another_run_leaves_that_run_alone(
        self, scene: TargetScene
    ) -> None:
        target, run = await scene.open(), suite_job()
        await target.sync(run, SuiteJournal())
        (ours,) = await scene.runs()
        theirs = await scene.add_copy(ours.key, marked=False)
        await scene.delete(ours.key)
        before = keyed(await scene.runs(), theirs)
        done = await (await scene.open()).sync(run, SuiteJournal(look_up_first=True))
        stored = await scene.runs()
        assert (done.created, len(stored)) == (True, 2)
        is_complete(of(stored, run), run)
        assert keyed(stored, theirs) == before
        assert before.mark == NO_MARK

    async def test_two_jobs_at_once_in_one_process(self, scene: TargetScene) -> None:
        target = await scene.open()
        await self._at_once(scene, target, target)

    async def test_two_jobs_at_once_in_two_processes(self, scene: TargetScene) -> None:
        await self._at_once(scene, await scene.open(), await scene.open())

    async def _at_once(self, scene: TargetScene, *targets: Target) -> None:
        """Both are the first of their project and of their model."""
        locks, runs = Locks(), [suite_job("churn-1"), suite_job("churn-2")]
        done = await asyncio.gather(
            *(
                target.sync(run, SuiteJournal(locks=locks))
                for target, run in zip(targets, runs, strict=True)
            )
        )
        stored = await scene.runs()
        assert [each.created for each in done] == [True, True]
        assert len(stored) == 2
        for run in runs:
            is_complete(of(stored, run), run)

    # --- lost answers -----------------------------------------------------------------------------

    async def test_an_answer_lost_before_the_write(self, scene: TargetScene) -> None:
        scene.lose_write()
        await self._completed_after_a_fault(scene)

    async def test_an_answer_lost_after_the_write(self, scene: TargetScene) -> None:
        scene.lose_answer()
        await self._completed_after_a_fault(scene)

    async def test_answers_lost_again_and_again(self, scene: TargetScene) -> None:
        run, journal = suite_job(), SuiteJournal()
        for lose in (scene.lose_write, scene.lose_answer, scene.lose_write):
            lose()
            target = await scene.open()
            try:
                done = await target.sync(run, journal)
            except EdgeFault:
                journal = journal.resumed()
                await scene.drain()
            else:
                break
        await scene.clear()
        done = await (await scene.open()).sync(run, journal.resumed())
        await one_complete_run(scene, run, done)

    async def _completed_after_a_fault(self, scene: TargetScene) -> None:
        run, journal, target = suite_job(), SuiteJournal(), await scene.open()
        with pytest.raises(EdgeFault) as caught:
            await target.sync(run, journal)
        assert caught.value.edge is Edge.TARGET
        assert caught.value.curable
        assert journal.unanswered_writes == 1, "a lost create was counted as answered"
        await scene.drain()
        done = await target.sync(run, journal)
        await one_complete_run(scene, run, done)
        assert journal.unanswered_writes == 0

    async def test_a_slow_write_that_is_carried_out_after_the_timeout(
        self, scene: TargetScene
    ) -> None:
        run, journal = suite_job(), SuiteJournal()
        held = scene.hold_write()
        impatient = await scene.open(timeout_seconds=IMPATIENT_SECONDS)
        with pytest.raises(EdgeFault) as caught:
            await impatient.sync(run, journal)
        assert caught.value.reason is Reason.UNREACHABLE
        assert held.reached.is_set()
        assert journal.unanswered_writes == 1

        async def late() -> None:
            held.release()

        scene.settling.during = late
        try:
            done = await (await scene.open()).sync(run, journal.resumed())
        finally:
            held.release()
        await scene.drain()
        await one_complete_run(scene, run, done)

    async def test_duplicates_are_healed_and_the_oldest_stays(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        first = await target.sync(run, SuiteJournal())
        (oldest,) = await scene.runs()
        for _ in range(2):
            await scene.add_copy(oldest.key)
        theirs = await scene.add_copy(oldest.key, marked=False)
        before = keyed(await scene.runs(), theirs)
        journal = SuiteJournal(unanswered_writes=MANY_WRITES)
        done = await (await scene.open()).sync(run, journal)
        stored = await scene.runs()
        assert {each.key for each in stored} == {oldest.key, theirs}
        assert keyed(stored, theirs) == before
        assert (done.created, done.healed, journal.unanswered_writes) == (False, 2, 0)
        same_run(done, first)

    async def test_a_write_that_comes_while_it_settles_is_healed(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        await target.sync(run, SuiteJournal())
        (oldest,) = await scene.runs()

        async def another() -> None:
            if len(await scene.runs()) == 1:
                await scene.add_copy(oldest.key)

        scene.settling.during = another
        done = await (await scene.open()).sync(run, SuiteJournal(unanswered_writes=MANY_WRITES))
        assert [each.key for each in await scene.runs()] == [oldest.key]
        assert (done.created, done.healed) == (False, 1)

    # --- the edge ---------------------------------------------------------------------------------

    async def test_edge_down(self, scene: TargetScene) -> None:
        await scene.go_down()
        await self._edge(scene, {Reason.UNREACHABLE, Reason.UNAVAILABLE})

    async def test_edge_down_between_two_jobs(self, scene: TargetScene) -> None:
        target = await scene.open()
        await target.sync(suite_job("churn-0"), SuiteJournal())
        await scene.go_down()
        run, journal = suite_job(), SuiteJournal()
        with pytest.raises(EdgeFault):
            await target.sync(run, journal)
        await scene.clear()
        await target.sync(run, journal)
        stored = await scene.runs()
        assert len(stored) == 2
        is_complete(of(stored, run), run)

    async def test_edge_silent(self, scene: TargetScene) -> None:
        scene.fall_silent()
        await self._edge(scene, {Reason.UNREACHABLE}, timeout_seconds=IMPATIENT_SECONDS)

    async def test_edge_throttled(self, scene: TargetScene) -> None:
        scene.throttle()
        await self._edge(scene, {Reason.THROTTLED})

    async def test_edge_web_page(self, scene: TargetScene) -> None:
        scene.show_web_page()
        await self._edge(scene, {Reason.NOT_THE_API}, curable=False)

    async def test_edge_login_refused(self, scene: TargetScene) -> None:
        scene.refuse_login()
        await self._edge(scene, {Reason.CREDENTIALS})

    async def _edge(
        self,
        scene: TargetScene,
        reasons: set[Reason],
        *,
        curable: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:
        """Every method says so, nothing is written, and all of it works afterwards."""
        target, run, journal = await scene.open(timeout_seconds=timeout_seconds), suite_job(), None
        journal = SuiteJournal()
        asked: list[Callable[[], Awaitable[object]]] = [
            target.probe,
            lambda: target.sync(run, journal),
            lambda: target.find(run.mark),
            lambda: target.compare(run),
        ]
        for ask in asked[:2] if timeout_seconds else asked:
            with pytest.raises(EdgeFault) as caught:
                await ask()
            fault = caught.value
            assert (fault.edge, fault.curable) == (Edge.TARGET, curable)
            assert fault.reason in reasons, fault
            assert fault.detail
            assert "\n" not in fault.detail
        await scene.clear()
        assert [each for each in await scene.runs() if each.complete] == []
        target = await scene.open()
        await target.probe()
        await one_complete_run(scene, run, await target.sync(run, journal.resumed()))

    async def test_the_same_target_works_again_after_an_outage(self, scene: TargetScene) -> None:
        target, run, journal = await scene.open(), suite_job(), SuiteJournal()
        await scene.go_down()
        for _ in range(3):
            with pytest.raises(EdgeFault):
                await target.sync(run, journal)
        await scene.clear()
        await target.probe()
        await one_complete_run(scene, run, await target.sync(run, journal))

    async def test_the_probe_writes_nothing(self, scene: TargetScene) -> None:
        target = await scene.open()
        await target.probe()
        await target.probe()
        assert await scene.runs() == []

    # --- refused for good -------------------------------------------------------------------------

    async def test_a_job_refused_for_good(self, scene: TargetScene) -> None:
        target, run, journal = await scene.open(), suite_job(), SuiteJournal()
        scene.refuse_write("this value is never taken")
        with pytest.raises(JobRefused) as caught:
            await target.sync(run, journal)
        assert caught.value.reason is Reason.TARGET_REFUSED
        assert "never taken" in caught.value.detail
        assert await scene.runs() == []
        after = suite_job("churn-2")
        await one_complete_run(scene, after, await target.sync(after, SuiteJournal()))

    # --- the journal ------------------------------------------------------------------------------

    @pytest.mark.parametrize("failure", ["lease lost", "storage"])
    async def test_no_write_that_the_journal_refuses(
        self, scene: TargetScene, failure: str
    ) -> None:
        target, run, journal = await scene.open(), suite_job(), SuiteJournal()
        journal.fail_at, journal.failure = ("begin_write", 1), failures(run)[failure]
        with pytest.raises(type(journal.failure)) as caught:
            await target.sync(run, journal)
        assert caught.value is journal.failure
        assert await scene.runs() == []
        done = await target.sync(run, journal.resumed())
        await one_complete_run(scene, run, done)

    @pytest.mark.parametrize("failure", ["lease lost", "storage"])
    async def test_every_step_that_the_journal_refuses(
        self, scene: TargetScene, failure: str
    ) -> None:
        """Wherever the journal ends an attempt, the next one completes the run."""
        learning = SuiteJournal()
        await (await scene.open()).sync(suite_job("learn-0", **own_place(0)), learning)
        calls = [
            (method, number)
            for method in ("begin_write", "note_steps")
            for number in range(1, learning.calls.count(method) + 1)
        ]
        for number, call in enumerate(calls, 1):
            run, journal = suite_job(f"churn-{number}", **own_place(number)), SuiteJournal()
            journal.fail_at, journal.failure = call, failures(run)[failure]
            with pytest.raises(type(journal.failure)) as caught:
                await (await scene.open()).sync(run, journal)
            assert caught.value is journal.failure, call
            done = await (await scene.open()).sync(run, journal.resumed())
            stored = [each for each in await scene.runs() if each.mark == run.mark]
            assert len(stored) == 1, call
            is_complete(stored[0], run)
            assert done.complete

    # --- paused until the lease has ended ---------------------------------------------------------

    async def test_paused_before_a_create(self, scene: TargetScene) -> None:
        """The process wakes when another one has written the job: it sends nothing."""
        run, journal = suite_job(), SuiteJournal()
        journal.paused = asyncio.Event()
        asleep = asyncio.create_task((await scene.open()).sync(run, journal))
        await until_called(journal, "begin_write", asleep)
        other = await scene.open()
        done = await other.sync(run, journal.taken_over())
        sent = await scene.requests()
        journal.paused.set()
        with pytest.raises(DaemonError) as caught:
            await asleep
        assert isinstance(caught.value, LeaseLost | EdgeFault)
        assert caught.value.reason in NO_LONGER
        assert await scene.requests() == sent
        await one_complete_run(scene, run, done)

    async def test_paused_in_a_create(self, scene: TargetScene) -> None:
        """Its create is carried out after another process has settled and written the job: it says
        so, and the lookup that follows under a new claim leaves one run.
        """
        run, journal = suite_job(), SuiteJournal()
        target, held = await scene.open(), scene.hold_write()
        asleep = asyncio.create_task(target.sync(run, journal))
        scene.settling.drains = False
        try:
            async with asyncio.timeout(5.0):
                await held.reached.wait()
            other = journal.taken_over()
            await (await scene.open()).sync(run, other)
        finally:
            held.release()
        with pytest.raises(LeaseLost):
            await asleep
        scene.settling.drains = True
        done = await target.sync(run, journal.in_doubt(other))
        await one_complete_run(scene, run, done)

    # --- cancelled --------------------------------------------------------------------------------

    @pytest.mark.slow  # some 50 attempts, each with a project of its own
    async def test_cancelled_at_every_await_point(self, scene: TargetScene) -> None:
        """Each job is the first of its project; the next attempt is a new process."""
        for number in range(1, MOST_SUSPENSIONS):
            run, journal = suite_job(f"churn-{number}", **own_place(number)), SuiteJournal()
            target = await scene.open()
            if not await cancelled_at(number, target.sync(run, journal)):
                break
            await target.aclose()
            target = await scene.open()
            done = await target.sync(run, journal.resumed())
            await target.aclose()
            await scene.drain()
            stored = [each for each in await scene.runs() if each.mark == run.mark]
            assert len(stored) == 1, f"cancelled at suspension {number}: {len(stored)} runs"
            is_complete(stored[0], run)
            assert done.complete
        else:
            raise AssertionError(f"an attempt with more than {MOST_SUSPENSIONS} suspensions")
        assert number > 1, "sync never suspended"

    async def test_cancelled_and_called_again_in_the_same_process(self, scene: TargetScene) -> None:
        target = await scene.open()
        for number in range(1, MOST_SUSPENSIONS, 3):
            run, journal = suite_job(f"churn-{number}", **own_place(number)), SuiteJournal()
            if not await cancelled_at(number, target.sync(run, journal)):
                break
            await target.sync(run, journal.resumed())
            stored = [each for each in await scene.runs() if each.mark == run.mark]
            assert len(stored) == 1, f"cancelled at suspension {number}: {len(stored)} runs"
            is_complete(stored[0], run)

    # --- find -------------------------------------------------------------------------------------

    async def test_find_what_is_there_and_what_is_not(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        assert await target.find(run.mark) is None
        done = await target.sync(run, SuiteJournal())
        found = await (await scene.open()).find(run.mark)
        assert found is not None
        assert not found.created
        same_run(found, done)
        assert await target.find(suite_job("churn-2").mark) is None
        assert len(await scene.runs()) == 1

    async def test_find_waits_for_unanswered_writes(self, scene: TargetScene) -> None:
        """A create that is on its way is there when find says whether it is."""
        run, journal = suite_job(), SuiteJournal()
        held = scene.hold_write()
        impatient = await scene.open(timeout_seconds=IMPATIENT_SECONDS)
        with pytest.raises(EdgeFault):
            await impatient.sync(run, journal)

        async def late() -> None:
            held.release()

        scene.settling.during = late
        target = await scene.open()
        try:
            found = await target.find(run.mark, unanswered_writes=journal.unanswered_writes)
        finally:
            held.release()
        assert found is not None
        assert [each.mark for each in await scene.runs()] == [run.mark]

    async def test_find_heals_what_unanswered_writes_left(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        await target.sync(run, SuiteJournal())
        (oldest,) = await scene.runs()
        await scene.add_copy(oldest.key)
        found = await target.find(run.mark, unanswered_writes=2)
        assert found is not None
        assert found.healed == 1
        assert [each.key for each in await scene.runs()] == [oldest.key]

    # --- preview ----------------------------------------------------------------------------------

    async def test_the_preview_is_what_sync_writes(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        preview = target.preview(run)
        await target.sync(run, SuiteJournal())
        (stored,) = await scene.runs()
        missing = set(scene.written(preview.document)) - stored.texts
        assert missing == set()
        assert preview.title
        rows = [row for _, rows in preview.sections for row in rows]
        assert {type(text) for row in rows for text in row} == {str}
        shown = "\n".join(f"{key} {value}" for key, value in rows)
        for text in ("s3://data/churn/train", "0.99", "0.2", "adam"):
            assert text in shown

    async def test_the_preview_is_pure_and_asks_nobody(self, scene: TargetScene) -> None:
        target = await scene.open()
        await scene.go_down()
        before = await scene.requests()
        first, second = target.preview(suite_job()), target.preview(suite_job())
        assert first == second
        assert await scene.requests() == before
        await scene.clear()
        assert await scene.runs() == []

    # --- compare and repair -----------------------------------------------------------------------

    async def test_compare_and_repair_when_nothing_differs(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        done = await target.sync(run, SuiteJournal())
        before = await scene.runs()
        compared = await target.compare(run)
        repaired = await target.repair(run, SuiteJournal(look_up_first=True))
        assert compared is not None
        for each in (compared, repaired):
            assert each.changed == ()
            assert not each.target_run.created
            same_run(each.target_run, done)
        assert await scene.runs() == before

    async def test_compare_and_repair_of_a_job_that_is_not_there(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        assert await target.compare(run) is None
        assert await scene.runs() == []
        repaired = await target.repair(run, SuiteJournal(look_up_first=True))
        await one_complete_run(scene, run, repaired.target_run)

    async def test_repair_of_a_damaged_run(self, scene: TargetScene) -> None:
        target, run = await scene.open(), suite_job()
        await target.sync(run, SuiteJournal())
        (before,) = await scene.runs()
        by_hand = await scene.add_by_hand(before.key)
        await scene.damage(before.key)
        compared = await target.compare(run)
        assert compared is not None
        assert compared.changed
        assert all(text and "\n" not in text for text in compared.changed)
        repaired = await target.repair(run, SuiteJournal(look_up_first=True))
        assert repaired.changed == compared.changed
        assert not repaired.target_run.created
        after = await target.compare(run)
        assert after is not None
        assert after.changed == ()
        (stored,) = await scene.runs()
        is_complete(stored, run)
        assert (stored.key, by_hand in stored.texts) == (before.key, True)

    async def test_repair_brings_a_changed_job_up_to_date(self, scene: TargetScene) -> None:
        target = await scene.open()
        await target.sync(suite_job(), SuiteJournal())
        now = suite_job(all_tags={"team": "risk"}, failure_reason="late news")
        compared = await target.compare(now)
        repaired = await target.repair(now, SuiteJournal(look_up_first=True))
        assert compared is not None
        assert repaired.changed == compared.changed
        assert repaired.changed or repaired.unchangeable
        after = await target.compare(now)
        assert after is not None
        assert after.changed == ()
        (stored,) = await scene.runs()
        is_complete(stored, now)
        if not repaired.unchangeable:
            assert any("late news" in text for text in stored.texts)

    async def test_repair_interrupted_anywhere_completes_when_repeated(
        self, scene: TargetScene
    ) -> None:
        target = await scene.open()
        for number in range(1, MOST_SUSPENSIONS):
            run = suite_job(f"churn-{number}")
            await target.sync(run, SuiteJournal())
            key = of(await scene.runs(), run).key
            by_hand = await scene.add_by_hand(key)
            await scene.damage(key)
            journal = SuiteJournal(look_up_first=True)
            ended = not await cancelled_at(number, target.repair(run, journal))
            await scene.drain()
            await target.repair(run, journal.resumed())
            compared = await target.compare(run)
            assert compared is not None
            assert compared.changed == (), f"cancelled at suspension {number}"
            (stored,) = [each for each in await scene.runs() if each.mark == run.mark]
            is_complete(stored, run)
            assert by_hand in stored.texts
            if ended:
                return
        raise AssertionError(f"a repair with more than {MOST_SUSPENSIONS} suspensions")

    # --- limits and texts -------------------------------------------------------------------------

    async def test_the_longest_of_everything(self, scene: TargetScene) -> None:
        target, run = await scene.open(), longest_job()
        done = await target.sync(run, SuiteJournal())
        (stored,) = await scene.runs()
        assert (done.created, stored.mark, stored.complete) == (True, run.mark, True)
        assert len(stored.metrics) == len(run.metrics)
        assert sorted(stored.metrics.values()) == sorted(each.value for each in run.metrics)
        assert len(stored.inputs) == len(run.channels)
        left_out = sum("left out" in note for note in done.notes)
        assert len(stored.hyperparameters) + left_out >= len(run.hyperparameters)
        again = await target.sync(run, SuiteJournal(look_up_first=True))
        assert not again.created
        same_run(again, done)
        compared = await target.compare(run)
        assert compared is not None
        assert compared.changed == ()

    async def test_a_hundred_hyperparameters_and_forty_metrics(self, scene: TargetScene) -> None:
        run = suite_job(
            hyperparameters=tuple(
                Hyperparameter(f"key_{number}", f"{number}", number) for number in range(100)
            ),
            metrics=tuple(Metric(f"metric_{number}", number / 8, CREATED) for number in range(40)),
        )
        await (await scene.open()).sync(run, SuiteJournal())
        (stored,) = await scene.runs()
        is_complete(stored, run)

    async def test_hostile_texts_stay_texts(self, scene: TargetScene) -> None:
        target, run = await scene.open(), hostile_job()
        done = await target.sync(run, SuiteJournal())
        (stored,) = await scene.runs()
        assert (done.created, stored.mark) == (True, run.mark)
        assert sorted(stored.hyperparameters.values()) == sorted(HOSTILE)
        assert len(stored.metrics) == len(run.metrics)
        assert run.project_description in stored.texts
        assert run.model_type in stored.texts
        again = await target.sync(run, SuiteJournal(look_up_first=True))
        assert not again.created
        compared = await target.compare(run)
        assert compared is not None
        assert compared.changed == ()

    async def test_nan_and_infinities(self, scene: TargetScene) -> None:
        run = suite_job(
            non_finite_metrics={"lost": "NaN", "gained": "Infinity", "sunk": "-Infinity"},
            hyperparameters=(
                Hyperparameter("nan", "NaN", "NaN"),
                Hyperparameter("big", "1e308", 1e308),
                Hyperparameter("infinite", "Infinity", "Infinity"),
            ),
            metrics=(Metric("tiny", 0.25, CREATED), Metric("none", 0.0, CREATED)),
        )
        target = await scene.open()
        await target.sync(run, SuiteJournal())
        (stored,) = await scene.runs()
        assert stored.complete
        assert (stored.metrics["tiny"], stored.metrics["none"]) == (0.25, 0.0)
        others = [value for name, value in stored.metrics.items() if name not in {"tiny", "none"}]
        assert all(math.isnan(value) for value in others)
        assert (stored.hyperparameters["nan"], stored.hyperparameters["infinite"]) == (
            "NaN",
            "Infinity",
        )
        assert float(stored.hyperparameters["big"]) == 1e308
        compared = await target.compare(run)
        assert compared is not None
        assert compared.changed == ()

    async def test_a_job_with_nothing_in_it(self, scene: TargetScene) -> None:
        run = suite_job(
            hyperparameters=(),
            metrics=(),
            channels=(),
            all_tags={},
            model_location=None,
            start_time=None,
            end_time=None,
            project_description="",
        )
        await one_complete_run(scene, run, await (await scene.open()).sync(run, SuiteJournal()))

    @pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped"])
    async def test_every_final_status(self, scene: TargetScene, status: str) -> None:
        target, run = await scene.open(), suite_job(status=status)
        await one_complete_run(scene, run, await target.sync(run, SuiteJournal()))
        (stored,) = await scene.runs()
        again = await target.sync(run, SuiteJournal(look_up_first=True))
        assert not again.created
        assert await scene.runs() == [stored]

    # --- secrets ----------------------------------------------------------------------------------

    async def test_a_secret_in_a_job_is_not_written(
        self, scene: TargetScene, caplog: pytest.LogCaptureFixture
    ) -> None:
        secret = "hunter2-Xy7Qp"
        run = run_of(
            HyperParameters={"db_password": secret, "url": f"https://me:{secret}@host/x"},
            TrainingJobStatus="Completed",
        )
        target = await scene.open()
        with caplog.at_level(logging.DEBUG):
            await target.sync(run, SuiteJournal())
        (stored,) = await scene.runs()
        assert not [text for text in stored.texts if secret in text]
        assert secret not in str(target.preview(run))
        assert secret not in caplog.text

    async def test_a_secret_that_the_server_says_shows_nowhere(
        self,
        scene: TargetScene,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        await self._shows_nowhere(scene, "AKIAIOSFODNN7QQQQQQQ", caplog, capsys)

    async def test_the_login_shows_nowhere(
        self,
        scene: TargetScene,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert scene.login
        await self._shows_nowhere(scene, scene.login.split()[-1], caplog, capsys)

    async def _shows_nowhere(
        self,
        scene: TargetScene,
        secret: str,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        target = await scene.open()
        scene.refuse_write(f"this value is never taken {secret}")
        with caplog.at_level(logging.DEBUG), pytest.raises(DaemonError) as caught:
            await target.sync(suite_job(), SuiteJournal())
        error = caught.value
        out, err = capsys.readouterr()
        shown = (str(error), repr(error), repr(error.args), caplog.text, out, err, repr(target))
        assert not [text for text in shown if secret in text]
        assert secret not in "".join(traceback.format_exception_only(error))
        assert not [words for words in scene.observed if secret in str(words)]

    # --- the object -------------------------------------------------------------------------------

    async def test_aclose_is_final_and_may_be_repeated(self, scene: TargetScene) -> None:
        target = await scene.open()
        await target.sync(suite_job(), SuiteJournal())
        await target.aclose()
        await target.aclose()
        await scene.drain()
        assert len(await scene.runs()) == 1

    async def test_aclose_of_a_target_that_was_never_used(self, scene: TargetScene) -> None:
        target = await scene.open()
        await target.aclose()
        await target.aclose()

    async def test_observe_gets_few_and_constant_words(self, scene: TargetScene) -> None:
        """They become labels of metrics: no name of a job, a project or an id is among them."""
        target = await scene.open()
        for number in range(3):
            run = suite_job(f"churn-{number}", **own_place(number))
            await target.sync(run, SuiteJournal(look_up_first=True))
            await target.find(run.mark)
            await target.compare(run)
            await target.repair(run, SuiteJournal(look_up_first=True))
            await target.probe()
        await scene.go_down()
        with pytest.raises(EdgeFault):
            await target.sync(suite_job("churn-9"), SuiteJournal())
        await scene.clear()
        words = {word for pair in scene.observed for word in pair}
        assert words
        assert [word for word in words if not _WORD.fullmatch(word)] == []
        assert len(words) <= _MOST_WORDS
        assert not [word for word in words if "churn" in word or "project-" in word]


# --- checks ---------------------------------------------------------------------------------------


def is_complete(stored: StoredRun, run: TrainingRun) -> None:
    """Asserts that a run is the job's and holds all of it."""
    assert (stored.mark, stored.complete) == (run.mark, True)
    assert dict(stored.hyperparameters) == {each.key: each.text for each in run.hyperparameters}
    wanted = {each.name: each.value for each in run.metrics}
    found = {name: value for name, value in stored.metrics.items() if name != "by hand"}
    assert found == pytest.approx(wanted, rel=1e-6)  # ModelDB V1 stores 32 bits
    assert dict(stored.inputs) == {each.name: each.uri for each in run.channels}
    for text in (run.project_name, run.model_name, run.model_type):
        assert text in stored.texts


async def until_called(
    journal: SuiteJournal, method: str, running: asyncio.Task[TargetRun]
) -> None:
    """Returns when the target has called a method of its journal."""
    while method not in journal.calls:
        assert not running.done(), running
        await asyncio.sleep(0)


async def one_complete_run(scene: TargetScene, run: TrainingRun, done: TargetRun) -> None:
    """Asserts that the server has one run, that of the job."""
    stored = await scene.runs()
    assert len(stored) == 1
    is_complete(stored[0], run)
    assert done.complete


def same_run(found: TargetRun, expected: TargetRun) -> None:
    """Asserts that two answers speak of the same run; `find` may know less of it."""
    common = found.ids.keys() & expected.ids.keys()
    assert common
    assert {key: found.ids[key] for key in common} == {key: expected.ids[key] for key in common}


def of(stored: Sequence[StoredRun], run: TrainingRun) -> StoredRun:
    (found,) = [each for each in stored if each.mark == run.mark]
    return found


def keyed(stored: Sequence[StoredRun], key: str) -> StoredRun:
    (found,) = [each for each in stored if each.key == key]
    return found


def own_place(number: int) -> dict[str, Any]:
    """Members of a job that is the first of its project and of its model."""
    return {"project_name": f"project-{number}", "model_name": f"model-{number}"}


def failures(run: TrainingRun) -> dict[str, DaemonError]:
    """What a journal raises."""
    return {
        "lease lost": LeaseLost(run.mark.arn),
        "storage": EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "the disk is full"),
    }


class _CancelledAt:
    """Awaits a coroutine and cancels the task when it suspends for the n-th time."""

    def __init__(self, number: int, work: Coroutine[Any, Any, object]) -> None:
        self._number = number
        self._work = work

    def __await__(self) -> Generator[Any, Any, object]:
        task = asyncio.current_task()
        assert task is not None
        suspensions, thrown = 0, None
        while True:
            try:
                waits_for = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration as end:
                return end.value
            suspensions += 1
            if suspensions == self._number:
                task.cancel()
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - goes into the coroutine, as a task does it
                thrown = error
            else:
                thrown = None


async def cancelled_at(number: int, work: Coroutine[Any, Any, object]) -> bool:
    """Runs a coroutine that is cancelled when it suspends for the n-th time.

    Returns:
        False: it ended before.
    """

    async def run() -> object:
        return await _CancelledAt(number, work)

    try:
        await asyncio.create_task(run())
    except asyncio.CancelledError:
        return True
    return False
