"""The guide for authors of targets: its example, names and numbers are those of the code."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from daemon import errors
from daemon.config import types
from daemon.reasons import Reason
from daemon.targets.kind import TargetKind
from daemon.targets.plugins import GROUP
from daemon.targets.ports import Target, WriteJournal
from docs.examples.jsonl_target import JSONL
from tests.targets.suite import TargetSuite

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/write-a-target.md").read_text(encoding="utf-8")
SCENES = {
    "modeldb-v2": "modeldb_v2_scene:ModelDbV2Scene",
    "modeldb-v1": "modeldb_v1_scene:ModelDbV1Scene",
    "mlflow": "mlflow_scene:MlflowScene",
    "jsonl": "jsonl_scene:JsonlScene",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", GUIDE)


def section(heading: str) -> str:
    return re.split(r"(?m)^## ", GUIDE.split(f"\n## {heading}\n")[1])[0]


def test_the_example_is_the_file() -> None:
    example = (ROOT / "docs/examples/jsonl_target.py").read_text(encoding="utf-8")
    assert blocks("python")[-1] == example


@pytest.mark.parametrize(
    ("protocol", "heading"),
    [(Target, "The protocol"), (WriteJournal, "The journal"), (TargetKind, "Settings")],
)
def test_every_member_is_explained(protocol: type, heading: str) -> None:
    members = {
        name
        for name, value in {**vars(protocol), **getattr(protocol, "__annotations__", {})}.items()
        if not name.startswith("_") and name != "name"
    }
    text = section(heading)
    assert len(members) > 5
    assert sorted(name for name in members if not re.search(rf"\b{name}\b", text)) == []


def test_its_errors_and_reasons_are_those_of_the_code() -> None:
    text = section("Errors")
    named = set(re.findall(r"`(\w+(?:Fault|Refused))\(", text))
    assert named == {"EdgeFault", "JobFault", "JobRefused", "SetupFault"}
    assert all(hasattr(errors, name) for name in named)
    assert set(re.findall(r"`([A-Z_]{5,})`", text)) <= set(Reason.__members__)


def test_its_types_of_settings_exist() -> None:
    names = re.findall(r"`((?:[A-Z][a-z]+)+)`", section("Settings"))
    ours = [name for name in names if not name.startswith("Target") and name != "Literal"]
    assert len(ours) > 4
    assert [name for name in ours if not hasattr(types, name)] == []


def test_its_packaging_brings_the_example() -> None:
    project = tomllib.loads(blocks("toml")[0])["project"]
    assert project["entry-points"] == {GROUP: {JSONL.name: "jsonl_target:JSONL"}}


def test_its_image_is_made_as_that_of_the_daemon() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (own,) = blocks("dockerfile")
    assert "USER 10001:10001" in own
    assert "pip --python /opt/modeldb-sync/bin/python install" in own
    assert "pip --python /opt/modeldb-sync/bin/python install" in dockerfile
    assert "USER 10001:10001" in dockerfile


def counts(kind: str) -> tuple[int, int]:
    """Passed and skipped tests of a kind."""
    cases = {
        name: _cases(function)
        for name, function in inspect.getmembers(TargetSuite, inspect.isfunction)
        if name.startswith("test_")
    }
    module, _, name = SCENES[kind].partition(":")
    cannot = getattr(import_module(f"tests.targets.{module}"), name).cannot
    skipped = sum(cases[each] for each in cannot)
    return sum(cases.values()) - skipped, skipped


def _cases(function: object) -> int:
    marks = getattr(function, "pytestmark", ())
    number = 1
    for mark in marks:
        if mark.name == "parametrize":
            number *= len(mark.args[1])
    return number


def test_its_table_counts_the_tests_of_each_kind() -> None:
    rows = re.findall(r"(?m)^\| `([\w-]+)` \| (\d+) \| (\d+) \|$", section("Testing"))
    assert {kind: (int(passed), int(skipped)) for kind, passed, skipped in rows} == {
        kind: counts(kind) for kind in SCENES
    }
