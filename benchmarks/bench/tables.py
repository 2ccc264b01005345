"""The results as tables, written into docs/performance.md between two markers.

`python -m benchmarks.bench.tables RESULTS` writes them again from a file of results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bench.environments import ROOT
from benchmarks.bench.figures import Account, Spread
from benchmarks.bench.verdicts import verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Results = Mapping[str, Any]

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
_NONE = "-"
_TROUBLES = {
    "twice": ("every event twice", "queue empty after, s"),
    "poison": ("1 % poison", "queue empty after, s"),
    "sigterm": ("SIGTERM under load", "stop took, s"),
    "outage": ("target down", "last run after its return, s"),
}


def write(results: Results, document: Path = DOCUMENT) -> None:
    """Puts the tables in place of the former ones.

    Raises:
        ValueError: the document has no markers.
    """
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document} has no markers")
    document.write_text(f"{before}{BEGIN}\n\n{tables(results)}\n\n{END}{after}")


def tables(results: Results) -> str:
    """All that the results have."""
    parts = [
        _about(results),
        "### Runs against jobs, speed, cost\n\n" + _headline(results),
        "### Bounds\n\n" + _bounds(results),
        "### One long poll at a time\n\n" + _drains(results, "drain-one-poller"),
        "### CPU is the limit: a target that answers at once\n\n"
        + _drains(results, "drain-fast-target"),
        "### A queue that is full before the start\n\n" + _drains(results, "drain-at-start"),
        "### Steady events\n\n" + _steady(results),
        "### Trouble\n\n" + _troubles(results),
        "### Start and idle\n\n" + _quiet(results),
        "### Real servers\n\n" + _real(results),
    ]
    return "\n\n".join(parts)


def _about(results: Results) -> str:
    machine, sizes = results["machine"], results["sizes"]
    lines = [
        f"Measured {results['when']}, commit `{results['commit'][:12]}`"
        + (" with changes" if results["changed"] else "")
        + ("; **a quick run: its figures only show that all works**" if results["quick"] else "")
        + f", on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}; load {machine['load_before']} before the run.",
        f"Pinning: {results['pinning']}. Broker: {results['broker']}.",
        f"Speeds are medians of {sizes['rounds']} rounds with least and most in parentheses.",
        *(f"{note[:1].upper()}{note[1:]}." for note in results["notes"]),
    ]
    rows = [[each["label"], each["versions"]] for each in results["participants"].values()]
    return "\n".join(lines) + "\n\n" + table(["participant", "versions"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def accounts(results: Results, participant: str) -> Account:
    """Of all scenarios on stand-ins together."""
    total = Account(0, 0, 0, 0, 0)
    for key, scenario in results["scenarios"].items():
        if key.startswith("real-"):
            continue
        for each in scenario.get(participant, ()):
            if "account" in each:
                total += Account(**each["account"])
    return total


def _headline(results: Results) -> str:
    rows = []
    for key, each in results["participants"].items():
        account = accounts(results, key)
        rows.append(
            [
                each["label"],
                str(account.jobs),
                str(account.runs),
                _bold(account.lost),
                _bold(account.doubled + account.strange),
                *_speed(results, "drain", key),
            ]
        )
    head = ["participant", "unique jobs", "runs", "lost", "doubled", *_SPEED]
    return table(head, rows)


_SPEED = ("jobs/s", "of the floor", "CPU ms a job", "times the floor", "RSS MB at most")


def _speed(results: Results, scenario: str, key: str) -> list[str]:
    cells: list[str] = []
    for figure, digits in (("jobs_per_second", 1), ("cpu_ms", 2)):
        ours, floor = (_spread(results, scenario, each, figure) for each in (key, "floor"))
        cells.append(_NONE if ours is None else ours.text(digits))
        cells.append(
            _NONE if ours is None or floor is None else f"{ours.median / floor.median:.2f}"
        )
    memory = _spread(results, scenario, key, "rss_mb")
    return [*cells, _NONE if memory is None else memory.text(0)]


def _drains(results: Results, scenario: str) -> str:
    rows = [
        [each["label"], *_speed(results, scenario, key)]
        for key, each in results["participants"].items()
        if key in results["scenarios"].get(scenario, {})
    ]
    return table(["participant", *_SPEED], rows) if rows else "Not measured in this run."


def _bounds(results: Results) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [[each.bound, each.measured or _NONE, words[each.reached]] for each in verdicts(results)]
    return table(["bound (daemon with SQLite)", "measured", "reached"], rows)


def _steady(results: Results) -> str:
    rows = []
    for key, each in results["participants"].items():
        for name, what in (("to_run", "run created"), ("to_outcome", "outcome durable")):
            spreads = [
                _spread(results, "steady", key, name, percent) for percent in ("p50", "p95", "p99")
            ]
            if spreads[0] is not None:
                cells = [_NONE if spread is None else spread.text(3) for spread in spreads]
                rows.append([each["label"], what, *cells])
    if not rows:
        return "Not measured in this run."
    sizes = results["sizes"]
    words = f"{sizes['rate']:g} events/s for {sizes['steady_seconds']:g} s; seconds since the send."
    return f"{words}\n\n" + table(["participant", "until", "50 %", "95 %", "99 %"], rows)


def _troubles(results: Results) -> str:
    rows = []
    for scenario, (name, seconds) in _TROUBLES.items():
        for key, each in results["participants"].items():
            for figure in results["scenarios"].get(scenario, {}).get(key, ()):
                if "account" not in figure:
                    rows.append([name, each["label"], "did not end", *[_NONE] * 6])
                    continue
                account = Account(**figure["account"])
                rows.append(
                    [
                        name,
                        each["label"],
                        str(account.jobs),
                        str(account.runs),
                        _bold(account.lost),
                        _bold(account.doubled + account.strange),
                        str(figure["dead_letters"]),
                        str(figure["left"]),
                        f"{seconds}: {figure['seconds']:.1f}",
                    ]
                )
    head = ["scenario", "participant", "jobs", "runs", "lost", "doubled", "dead letters", "left"]
    return table([*head, "time"], rows) if rows else "Not measured in this run."


def _quiet(results: Results) -> str:
    rows = []
    for key, each in results["participants"].items():
        start = [_spread(results, "cold-start", key, name) for name in ("seconds", "cpu_seconds")]
        idle = [
            _spread(results, "idle", key, name)
            for name in ("cpu_percent", "rss_mb", "requests_an_hour", "dollars_a_month")
        ]
        if any(start + idle):
            digits = (2, 2, 2, 0, 0, 3)
            cells = [
                _NONE
                if spread is None
                else spread.text(many)
                if spread.rounds > 1
                else f"{spread.median:.{many}f}"
                for spread, many in zip(start + idle, digits, strict=True)
            ]
            rows.append([each["label"], *cells])
    head = [
        "participant",
        "start to first run, s",
        "CPU of that, s",
        "idle CPU, % of a core",
        "idle RSS, MB",
        "idle AWS requests an hour",
        "$ a month of these",
    ]
    return table(head, rows) if rows else "Not measured in this run."


def _real(results: Results) -> str:
    rows = []
    for scenario, rounds in results["scenarios"].items():
        if not scenario.startswith("real-"):
            continue
        for key, figures in rounds.items():
            speed = _spread(results, scenario, key, "jobs_per_second")
            cpu = _spread(results, scenario, key, "cpu_ms")
            total = Account(0, 0, 0, 0, 0)
            for each in figures:
                if "account" in each:
                    total += Account(**each["account"])
            rows.append(
                [
                    scenario.removeprefix("real-"),
                    results["participants"][key]["label"],
                    f"{total.jobs}",
                    f"{total.runs}",
                    _NONE if speed is None else speed.text(1),
                    _NONE if cpu is None else cpu.text(2),
                ]
            )
    head = ["server", "participant", "unique jobs", "runs", "jobs/s", "CPU ms a job"]
    return table(head, rows) if rows else "Not measured in this run."


def _spread(results: Results, scenario: str, key: str, *path: str) -> Spread | None:
    figures = []
    for each in results["scenarios"].get(scenario, {}).get(key, ()):
        value: Any = each
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            figures.append(float(value))
    return Spread.of(figures) if figures else None


def _bold(count: int) -> str:
    return f"**{count}**" if count else "0"


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()))
