"""`docs/failure-modes.md` is complete and names only what exists: metrics, log lines, reasons,
alerts, keys. `failure_modes.yaml` names the tests that show each of its rows.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from daemon.config.settings import DynamoDbSettings, Settings, SqliteSettings
from daemon.outcome import REASONS
from daemon.reasons import Edge, Reason
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from tests.deploy.exported import exported_families, exported_samples
from tests.deploy.vocabulary import Expression, unknown_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/failure-modes.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs/design.md").read_text(encoding="utf-8")

SHOWN_BY: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]] = yaml.safe_load(
    Path(__file__).with_name("failure_modes.yaml").read_text(encoding="utf-8")
)
"""Names of tests by table (``rules`` or ``failures``), section and first cell of a row."""

FAILURES = ("failure", "what you will see", "what to do")
RULES = ("rule", "without it")

GROUPS_OF_THE_PROMISE = (
    "Identity",
    "Claims and the ledger",
    "Ambiguous writes",
    "Outages",
    "Stop",
    "Dead letters",
    "Reconcile",
    "Backfill",
)
EDGES = (
    "Queue",
    "SageMaker",
    "ModelDB V2",
    "ModelDB V1",
    "MLflow",
    "Checkpoint",
    "Process and host",
    "Messages and jobs",
    "Time",
    "Security",
)

LEVELS_FOR_PEOPLE = {"warning", "error", "exception", "critical"}
LOGGED_BY_LEVEL = {"probe failed": "warning", "job outcome": "warning"}
"""Events whose level is chosen at run time; at their worst they are this."""

SECTIONS_WITH_KINDS = {
    "target": (ModelDbV1Settings, ModelDbV2Settings, MlflowSettings),
    "checkpoint": (SqliteSettings, DynamoDbSettings),
}


@dataclass(frozen=True)
class Row:
    """A row of a table and the heading above it."""

    heading: str
    header: tuple[str, ...]
    cells: tuple[str, ...]


def rows(text: str) -> Iterator[Row]:
    heading = ""
    header: tuple[str, ...] = ()
    for line in text.splitlines():
        if line.startswith("#"):
            heading, header = line.lstrip("# "), ()
        elif not line.startswith("|"):
            header = ()
        else:
            cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
            if not header:
                header = cells
            elif not set(line) <= set("|-"):
                yield Row(heading, header, cells)


ROWS = [*rows(TEXT), *rows(DESIGN)]
SPANS = set(re.findall(r"`([^`\n]+)`", TEXT))


@cache
def defined_tests() -> Mapping[str, tuple[str, ...]]:
    """Every test function below ``tests``: its name and the files that define it, once for each
    definition.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                found[node.name].append(path.relative_to(ROOT / "tests").as_posix())
    return {name: tuple(files) for name, files in found.items()}


def objection(named: str) -> str:
    """Why this is not the name of exactly one test; empty if it is."""
    part, _, name = named.rpartition("::")
    files = [file for file in defined_tests().get(name, ()) if part in file]
    if not files:
        return f"{named}: there is no such test"
    return "" if len(files) == 1 else f"{named}: put a part of a path before it, of {files}"


@cache
def logged_events() -> Mapping[str, frozenset[str]]:
    """The levels of each event that the daemon logs, by its text; the demonstration has none of its
    own.
    """
    found: dict[str, set[str]] = {event: {level} for event, level in LOGGED_BY_LEVEL.items()}
    for path in (ROOT / "daemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                    args=[ast.Constant(value=str(event)), *_],
                ):
                    found.setdefault(event, set()).add(level)
    return {event: frozenset(levels) for event, levels in found.items()}


def alerts() -> set[str]:
    groups = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yml").read_text(encoding="utf-8"))[
        "groups"
    ]
    return {rule["alert"] for group in groups for rule in group["rules"]}


# The tables
# ---


def test_every_row_is_whole() -> None:
    assert len(ROWS) > 100
    for row in ROWS:
        assert row.header in {FAILURES, RULES}, row
        assert len(row.cells) == len(row.header), row.cells[0]
        assert all(row.cells), row.cells[0]
    given = [(row.heading, row.cells[0]) for row in ROWS]
    assert [each for each in given if given.count(each) > 1] == []


def test_every_edge_has_its_failures() -> None:
    failures = {row.heading for row in ROWS if row.header == FAILURES}
    assert set(EDGES) | {"Dead letters", "What is not covered"} == failures


def test_every_group_of_rules_of_the_promise_has_its_rules() -> None:
    promise = DESIGN[DESIGN.index("\n## The promise") :]
    assert tuple(re.findall(r"(?m)^### (.+)$", promise)) == GROUPS_OF_THE_PROMISE
    with_rules = {row.heading for row in ROWS if row.header == RULES}
    assert with_rules == {"The promise", *GROUPS_OF_THE_PROMISE}


def test_every_section_is_in_the_contents() -> None:
    sections = {heading.lower().replace(" ", "-") for heading in re.findall(r"(?m)^## (.+)$", TEXT)}
    contents = TEXT[TEXT.index("Contents:") : TEXT.index("\n## ")]
    assert set(re.findall(r"\]\(#([\w-]+)\)", contents)) == sections


# What it names
# ---


def test_each_row_has_its_tests() -> None:
    in_document = {
        (("rules" if row.header == RULES else "failures"), row.heading, row.cells[0])
        for row in ROWS
    }
    with_tests = {
        (table, section, cell)
        for table, sections in SHOWN_BY.items()
        for section, cells in sections.items()
        for cell, tests in cells.items()
        if tests
    }
    assert in_document == with_tests


def test_the_tests_of_each_row_exist() -> None:
    assert [
        f"{cell}: {why}"
        for sections in SHOWN_BY.values()
        for cells in sections.values()
        for cell, tests in cells.items()
        for why in [*map(objection, tests), *("twice" for test in tests if tests.count(test) > 1)]
        if why
    ] == []


def test_a_wrong_name_of_a_test_is_found() -> None:
    own = "test_a_wrong_name_of_a_test_is_found"
    assert objection(own) == objection(f"docs::{own}") == ""
    assert "no such test" in objection(f"unit::{own}")
    assert "no such test" in objection("test_of_nothing")
    assert "no such test" in objection("defined_tests")
    of_several = next(name for name, files in defined_tests().items() if len(files) > 1)
    assert "part of a path" in objection(of_several)


def test_its_metrics_are_exported_and_all_are_there() -> None:
    metrics = {span for span in SPANS if "modeldb_sync_" in span}
    without_values = {span for span in metrics if re.search(r"\{\w+(,\w+)*\}", span)}
    whole = {f"metric {name}" for name in exported_families()}  # a histogram by its own name
    assert [
        words
        for span in metrics - without_values
        if (words := set(unknown_words(Expression(span))) - whole)
    ] == []
    for span in without_values:
        name, _, labels = span.strip("}").partition("{")
        assert set(labels.split(",")) <= set(exported_samples()[name]), span
    named = {name for span in metrics for name in re.findall(r"modeldb_sync_\w+", span)}
    families = {
        name: set(samples) | {name}
        for name, samples in exported_families().items()
        if name.startswith("modeldb_sync_")
    }
    assert [family for family, samples in families.items() if not samples & named] == []


def test_its_log_lines_are_logged_and_all_that_people_must_see_are_there() -> None:
    quoted = {span.strip('"') for span in SPANS if span.startswith('"') and span.endswith('"')}
    assert quoted - set(logged_events()) == set()
    for_people = {event for event, levels in logged_events().items() if levels & LEVELS_FOR_PEOPLE}
    assert for_people - quoted == set()


def test_no_event_of_the_log_is_put_together() -> None:
    """Such a text would be missed here, and by who searches for it."""
    for path in (ROOT / "daemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[first, *_]
                ) if level in LEVELS_FOR_PEOPLE | {"info"}:
                    assert isinstance(first, ast.Constant | ast.Name), f"{path}:{node.lineno}"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_there(reason: Reason) -> None:
    in_rows = {
        span for row in ROWS for cell in row.cells for span in re.findall(r"`([^`]+)`", cell)
    }
    assert reason in in_rows


def test_a_reason_stands_with_the_outcome_that_has_it() -> None:
    pairs = re.findall(rf"`({'|'.join(REASONS)})`, `(\w+)`", TEXT)
    assert pairs
    assert [
        (outcome, word) for outcome, word in pairs if word not in {*REASONS[outcome], *REASONS}
    ] == []


def test_every_alert_is_there() -> None:
    named = set(re.findall(r"\[(ModelDBSync\w+)\]\(runbook\.md#\w+\)", TEXT))
    assert named == alerts()
    for name, anchor in re.findall(r"\[(ModelDBSync\w+)\]\(runbook\.md#(\w+)\)", TEXT):
        assert anchor == name.lower()


def test_its_keys_are_keys_of_the_configuration() -> None:
    keys = {match for span in SPANS for match in re.findall(r"^([a-z]+)\.([a-z_]+)\b", span)}
    keys = {(section, key) for section, key in keys if section in Settings.model_fields}
    assert len(keys) > 10
    for section, key in keys:
        kinds = SECTIONS_WITH_KINDS.get(section) or (Settings.model_fields[section].annotation,)
        assert any(key in kind.model_fields for kind in kinds if kind is not None), (
            f"{section}.{key}"
        )


def test_its_edges_are_the_programs() -> None:
    given = re.search(r"Every edge \((.+?)\) has one circuit breaker", TEXT)
    assert given is not None
    assert set(re.findall(r"`(\w+)`", given[1])) == set(Edge)
