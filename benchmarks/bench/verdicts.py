"""The bounds that this project has set itself, and whether a run reaches them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Results = Mapping[str, Any]


DAEMON = "daemon-sqlite"
FLOOR_SPEED, FLOOR_CPU, SAMPLE_SPEED = 0.9, 1.6, 10
"""Times the floor's or the sample's."""
RSS_MB, P99_SECONDS = 80, 1


@dataclass(frozen=True)
class Verdict:
    """One bound.

    Attributes:
        bound: in words.
        measured: as the table shows it; empty: this run has not measured it.
        reached: whether; None: not measured.
    """

    bound: str
    measured: str
    reached: bool | None


def median(results: Results, scenario: str, participant: str, *path: str) -> float | None:
    """The median of a figure over the rounds that have it; None: none has."""
    figures = [
        figure
        for each in results["scenarios"].get(scenario, {}).get(participant, ())
        if (figure := _at(each, path)) is not None
    ]
    return statistics.median(figures) if figures else None


def verdicts(results: Results) -> list[Verdict]:
    """All bounds, in the order of the issue that set them."""
    return [
        _ratio(
            results,
            "jobs/s at least 0.9 of the floor's where the target is the limit",
            ("jobs_per_second", "floor"),
            lambda ratio: ratio >= FLOOR_SPEED,
        ),
        _ratio(
            results,
            "at most 1.6 times the floor's CPU per job",
            ("cpu_ms", "floor"),
            lambda ratio: ratio <= FLOOR_CPU,
        ),
        _ratio(
            results,
            "at least 10 times the jobs/s of the sample's steps",
            ("jobs_per_second", "sample"),
            lambda ratio: ratio >= SAMPLE_SPEED,
        ),
        _ratio(
            results,
            "more jobs/s than sqs-consumer with the same handler, two long polls each",
            ("jobs_per_second", "sqs-consumer"),
            lambda ratio: ratio > 1,
        ),
        _ratio(
            results,
            "more jobs/s than sqs-consumer with the same handler, one long poll each",
            ("jobs_per_second", "sqs-consumer"),
            lambda ratio: ratio > 1,
            scenario="drain-one-poller",
        ),
        _below(results, "RSS below 80 MB", ("drain", "rss_mb"), RSS_MB, "MB"),
        _below(
            results,
            "99 % of events at 50/s durably recorded in less than 1 s",
            ("steady", "to_outcome", "p99"),
            P99_SECONDS,
            "s",
        ),
        _exact(results),
    ]


def _ratio(
    results: Results,
    bound: str,
    figure: tuple[str, str],
    reached: Callable[[float], bool],
    *,
    scenario: str = "drain",
) -> Verdict:
    name, other = figure
    ours, theirs = (median(results, scenario, key, name) for key in (DAEMON, other))
    if ours is None or theirs is None:
        return Verdict(bound, "", None)
    ratio = ours / theirs
    return Verdict(bound, f"{ratio:.2f} ({ours:.1f} against {theirs:.1f})", reached(ratio))


def _below(results: Results, bound: str, path: tuple[str, ...], limit: float, unit: str) -> Verdict:
    figure = median(results, path[0], DAEMON, *path[1:])
    if figure is None:
        return Verdict(bound, "", None)
    return Verdict(bound, f"{figure:.3g} {unit}", figure < limit)


def _exact(results: Results) -> Verdict:
    bound = "one run for each job in every scenario, whichever checkpoint"
    rounds = [
        each
        for scenario in results["scenarios"].values()
        for key, figures in scenario.items()
        if key.startswith("daemon")
        for each in figures
    ]
    accounts = [each["account"] for each in rounds if "account" in each]
    if not rounds:
        return Verdict(bound, "", None)
    wrong = sum(each["lost"] + each["doubled"] + each["strange"] for each in accounts)
    jobs = sum(each["jobs"] for each in accounts)
    stuck = sum("stuck" in each for each in rounds)
    text = f"{jobs} jobs, {wrong} lost, doubled or strange; {stuck} rounds without an end"
    return Verdict(bound, text, wrong == stuck == 0)


def _at(figure: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = figure
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return None if value is None else float(value)
