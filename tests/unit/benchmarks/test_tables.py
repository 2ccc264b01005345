"""What `make bench` writes: tables between markers, and whether bounds are reached."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.bench.tables import BEGIN, END, accounts, table, tables, write
from benchmarks.bench.verdicts import verdicts

if TYPE_CHECKING:
    from pathlib import Path


def account(jobs: int, runs: int, lost: int = 0, doubled: int = 0) -> dict[str, int]:
    return {"jobs": jobs, "runs": runs, "lost": lost, "doubled": doubled, "strange": 0}


def drained(speed: float, cpu: float, rss: float = 70.0) -> dict[str, Any]:
    return {
        "jobs_per_second": speed,
        "cpu_ms": cpu,
        "rss_mb": rss,
        "account": account(100, 100),
    }


def results() -> dict[str, Any]:
    percentiles = {"p50": 0.05, "p95": 0.2, "p99": 0.5}
    return {
        "commit": "0123456789abcdef",
        "changed": False,
        "quick": False,
        "when": "2026-11-29 13:30 UTC",
        "machine": {
            "cpu": "Xeon",
            "cores": 2,
            "memory_gb": 23.5,
            "system": "Linux",
            "load_before": 0.1,
        },
        "pinning": "participant on core 0",
        "broker": "the model",
        "sizes": {"rounds": 3, "rate": 50, "steady_seconds": 8},
        "notes": ["sqs-consumer was left out: npm is not on PATH"],
        "participants": {
            "floor": {"label": "the floor", "versions": "Python 3.13"},
            "sample": {"label": "the sample", "versions": "Python 3.13"},
            "sqs-consumer": {"label": "sqs-consumer", "versions": "Node 20"},
            "daemon-sqlite": {"label": "the daemon", "versions": "Python 3.13"},
        },
        "scenarios": {
            "drain": {
                "floor": [drained(190, 4.0), drained(200, 5.0), drained(210, 4.4)],
                "sample": [drained(8, 10.0)],
                "sqs-consumer": [drained(150, 3.0)],
                "daemon-sqlite": [drained(185, 6.0), drained(195, 6.4)],
            },
            "drain-one-poller": {
                "sqs-consumer": [drained(120, 3.0)],
                "daemon-sqlite": [drained(180, 6.0)],
            },
            "steady": {
                "daemon-sqlite": [
                    {
                        "to_run": percentiles,
                        "to_outcome": percentiles,
                        "account": account(100, 100),
                    }
                ]
            },
            "twice": {
                "floor": [
                    {
                        "account": account(50, 53, 1, 4),
                        "dead_letters": 2,
                        "left": 0,
                        "seconds": 3.21,
                    }
                ]
            },
            "real-modeldb-v2": {"floor": [drained(20, 4.0) | {"account": account(10, 9, 1)}]},
        },
    }


def reached(given: dict[str, Any]) -> dict[str, bool | None]:
    return {verdict.bound: verdict.reached for verdict in verdicts(given)}


def test_bounds_are_measured_at_the_medians() -> None:
    found = verdicts(results())

    assert [each.reached for each in found] == [True] * 8
    assert found[0].measured == "0.95 (190.0 against 200.0)"
    assert found[1].measured == "1.41 (6.2 against 4.4)"
    assert found[6].measured == "0.5 s"


@pytest.mark.parametrize(
    ("position", "change"),
    [
        (0, {"jobs_per_second": 179.0}),
        (1, {"cpu_ms": 7.1}),
        (2, {"jobs_per_second": 79.0}),
        (3, {"jobs_per_second": 149.0}),
        (5, {"rss_mb": 80.0}),
        (7, {"account": account(100, 100, lost=1, doubled=1)}),
    ],
)
def test_a_bound_that_is_missed_is_said_to_be(position: int, change: dict[str, Any]) -> None:
    given = results()
    given["scenarios"]["drain"]["daemon-sqlite"] = [drained(190, 6.0) | change]

    assert verdicts(given)[position].reached is False
    assert "**no**" in tables(given)


def test_sqs_consumer_is_compared_with_one_long_poll_each_too() -> None:
    given = results()
    given["scenarios"]["drain-one-poller"]["daemon-sqlite"] = [drained(120, 6.0)]

    found = verdicts(given)

    assert (found[3].reached, found[4].reached) == (True, False)
    assert found[4].measured == "1.00 (120.0 against 120.0)"


def test_a_round_of_the_daemon_without_an_end_misses_the_bound_of_one_run_for_each_job() -> None:
    given = results()
    given["scenarios"]["drain"]["daemon-sqlite"].append({"stuck": "no runs"})

    assert [each.reached for each in verdicts(given)] == [True] * 7 + [False]


def test_the_p99_of_the_durable_outcome_counts_not_that_of_the_run() -> None:
    given = results()
    (steady,) = given["scenarios"]["steady"]["daemon-sqlite"]
    steady["to_outcome"] = steady["to_outcome"] | {"p99": 1.0}

    assert verdicts(given)[6].reached is False


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    given = results() | {"scenarios": {}}

    assert set(reached(given).values()) == {None}
    assert "Not measured in this run." in tables(given)


def test_lost_and_doubled_jobs_of_all_scenarios_on_stand_ins_are_added() -> None:
    total = accounts(results(), "floor")

    assert (total.jobs, total.runs, total.lost, total.doubled) == (350, 353, 1, 4)
    assert "| the floor | 350 | 353 | **1** | **4** | 200.0 (190.0-210.0) | 1.00 |" in tables(
        results()
    )


def test_a_round_without_an_end_is_shown() -> None:
    given = results()
    given["scenarios"]["twice"]["daemon-sqlite"] = [{"stuck": "no runs"}]

    assert "| every event twice | the daemon | did not end |" in tables(given)


def test_notes_and_a_quick_run_are_said() -> None:
    text = tables(results() | {"quick": True})

    assert "Sqs-consumer was left out: npm is not on PATH." in text
    assert "a quick run" in text


def test_tables_take_the_place_of_the_former_ones(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write(results(), document)
    first = document.read_text()
    write(copy.deepcopy(results()), document)

    assert document.read_text() == first
    assert first.startswith(f"before\n{BEGIN}\n")
    assert first.endswith(f"{END}\nafter\n")
    assert "old" not in first


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("nothing\n")

    with pytest.raises(ValueError, match="no markers"):
        write(results(), document)
    assert document.read_text() == "nothing\n"


def test_every_row_has_as_many_cells_as_the_head() -> None:
    widths: set[int] = set()
    for block in tables(results()).split("\n\n"):
        rows = [line.count(" | ") for line in block.splitlines() if line.startswith("|")]
        assert len(set(rows)) <= 1
        widths |= set(rows)
    assert widths
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
