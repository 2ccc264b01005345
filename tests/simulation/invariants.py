"""What must hold at the end of a history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.plans import Check
from tests.simulation.rejections import (
    letter_of_gone_job,
    rejections,
    verify_outcomes,
    verify_rejections,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.plans import Plan
    from tests.simulation.world import Place, World

_OWN_FAULTS = {"target_fault", "sagemaker_fault", "internal_error"}
_CLAIM_LOST = {"lease_lost"}


def verify(world: World, plan: Plan, asked: Mapping[str, bool | None] | None = None) -> None:
    """Checks the invariants. It says in words what is wrong.

    Args:
        asked: of the jobs that only requests tell of, those that must have a run (True) or may have
            one (None), by their names.
    """
    for place in world.places:
        _verify_runs(world, place, plan, asked or {})
    for place in world.queue_places:
        verify_rejections(world, place, plan)
        verify_outcomes(world, place, plan)
        _verify_checks(world, place, plan)


def _verify_runs(world: World, place: Place, plan: Plan, asked: Mapping[str, bool | None]) -> None:
    """Each job has exactly one complete run in each place."""
    asked_for = [each for each in plan.jobs if not (each.told or plan.shape.reconcile)]
    wanted = {each.job.name: asked.get(each.job.name, False) for each in asked_for}
    jobs = [each for each in plan.jobs if wanted.get(each.job.name, True) is not False]
    sure = [each.lasts and wanted.get(each.job.name, True) is not None for each in jobs]
    expected = [each.job.run for each, is_sure in zip(jobs, sure, strict=True) if is_sure]
    optional = [each.job.run for each, is_sure in zip(jobs, sure, strict=True) if not is_sure]
    there = [run for run in optional if run is not None and place.has(run)]
    excused = _nobody_knew(world, place, plan)
    excused += tuple(
        f"{planned.job.name}: project " for planned in plan.jobs if planned.moved_at is not None
    )
    where = "" if place is world.places[0] else " (in the second target)"
    for problem in place.wrong([run for run in expected if run is not None] + there):
        if not problem.startswith(excused):
            world.wrong(f"{_in_words(problem)}{where}")
    for violation in place.v1.violations:
        world.wrong(violation)


def _in_words(problem: str) -> str:
    """The problem, and before it what it means for a user."""
    job, _, what = problem.partition(": ")
    if what == "0 runs" or what.startswith("0 models"):
        return f"model missing: {problem}"
    if what.endswith((" runs", " models")) or "models" in what:
        return f"model twice: {problem}"
    return problem if job else what


def _nobody_knew(world: World, place: Place, plan: Plan) -> tuple[str, ...]:
    """How problems begin that a rejection tells of: with jobs that vanished from SageMaker while
    their write was half-way.

    With ModelDB V1 their run stays incomplete when the process that had read them was killed, and
    the rejection names it. When the checkpoint was deleted, too, nobody can know that there was a
    write (docs/failure-modes.md, "What is not covered").
    """
    found = rejections(world, place)
    names = [letter_of_gone_job(each) for each in found if "may be incomplete" in each.detail]
    if plan.suffers("checkpoint_deleted"):
        given = {each.body for each in found}
        forgotten = place.dead_letters is None
        names += [
            planned.job.name
            for planned in plan.jobs
            if not planned.lasts and (forgotten or planned.job.event in given)
        ]
    return tuple(f"{name}: " for name in names)


def _verify_checks(world: World, place: Place, plan: Plan) -> None:
    checks = plan.checks
    if Check.NO_RECEIVE_USED_UP in checks:
        _verify_receives(world, place, 1)
    if Check.FEW_RECEIVES_USED_UP in checks:
        _verify_receives(world, place, 2)
    if Check.NO_OWN_FAULT in checks:
        _verify_no_outcome(world, _OWN_FAULTS, "a fault of the whole edge counted as the job's own")
    if Check.NO_CLAIM_LOST in checks:
        _verify_no_outcome(world, _CLAIM_LOST, "a claim was lost although the checkpoint works")
    if Check.PROMPT_INTAKE in checks:
        _verify_intake(world, place, plan.longest_intake)
    if Check.NAMES_ONCE in checks:
        for duplicate in place.http.duplicate_names():
            world.wrong(duplicate)


def _verify_receives(world: World, place: Place, most: int) -> None:
    for message in place.queue.messages:
        if message.receives > most:
            world.wrong(
                f"receives used up by an outage: {message.message_id} was received "
                f"{message.receives} times, and nothing but whole edges was out of order"
            )


def _verify_no_outcome(world: World, reasons: set[str], what: str) -> None:
    for message_id, had in world.outcomes.items():
        bad = [reason for _, reason in had if reason in reasons]
        if bad:
            world.wrong(f"{what}: {message_id} deferred {len(bad)} times ({bad[0]})")


def _verify_intake(world: World, place: Place, longest: float) -> None:
    for message in place.queue.messages:
        received = [at for at, what in message.life if what.startswith("received 1")]
        sent = message.life[0][0]
        if received and received[0] - sent > longest:
            world.wrong(
                f"intake paused although the edge works: {message.message_id} was in the queue for "
                f"{received[0] - sent:.0f} s"
            )
