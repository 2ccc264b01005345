"""Kinds of target from other packages: which can be used, and what is said of the others."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from daemon.errors import SetupFault
from daemon.operations.check import target_findings
from daemon.operations.finding import Verdict
from daemon.targets import registry
from daemon.targets.kind import TargetKind
from daemon.targets.plugins import PlugIn, load_plug_ins
from daemon.targets.registry import DEFAULT_KIND, TARGET_KINDS
from daemon.targets.settings import TargetSettings
from docs.examples.jsonl_target import JSONL
from tests.support.plug_ins import EXAMPLE, install
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = """
from typing import ClassVar, Literal
from daemon.targets.kind import TargetKind
from daemon.targets.settings import TargetSettings
class Placed(TargetSettings):
    address: ClassVar[str] = "nowhere"
class Base(Placed):
    settle_seconds: float = 1
def opened(settings, context):
    raise NotImplementedError
"""
END = "\nKIND = TargetKind(S, opened)"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        del sys.modules[name]


def loaded(folder: Path) -> list[PlugIn]:
    return list(load_plug_ins(TARGET_KINDS, Distribution.discover(path=[str(folder)])))


def test_a_kind_is_found_by_its_entry_point(folder: Path) -> None:
    install(folder, "jsonl_pack", None, name="jsonl", value=EXAMPLE)
    (found,) = loaded(folder)
    assert (found.kind, found.fault) == (JSONL, "")
    assert str(found) == f"jsonl_pack 1.2 (entry point jsonl = {EXAMPLE})"


def test_packages_of_other_groups_are_not_looked_into(folder: Path) -> None:
    install(folder, "other", "raise SystemExit('imported')")
    entry_points = folder / "other-1.2.dist-info" / "entry_points.txt"
    entry_points.write_text("[console_scripts]\nother = other:main\n")
    assert loaded(folder) == []


def test_a_damaged_package_hides_no_other(folder: Path) -> None:
    install(folder, "damaged", None)
    (folder / "damaged-1.2.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")
    install(folder, "jsonl_pack", None, name="jsonl", value=EXAMPLE)
    assert [each.package for each in loaded(folder)] == ["jsonl_pack"]


def test_the_first_of_two_installations_counts(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    install(folder, "jsonl_pack", None, name="jsonl", value=EXAMPLE)
    install(second, "jsonl_pack", None, name="jsonl", value="nowhere:KIND")
    found = load_plug_ins((), Distribution.discover(path=[str(folder), str(second)]))
    assert [each.kind for each in found] == [JSONL]


FAULTS = {
    "a missing module": ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError: No mo"),
    "a missing object": ("", "cannot be imported: AttributeError: module 'broken' has no attribut"),
    "a bug": ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
    "an exit": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    "a syntax error": ("KIND = (", "cannot be imported: SyntaxError: '(' was never closed"),
    "something else": ("KIND = dict", "is no TargetKind of daemon.targets.kind, but of type type"),
    "another word": (
        f"{HEAD}\nclass S(Base):\n    kind: Literal['duck']{END}",
        "is of kind duck, which must be the name of its entry point, too",
    ),
    "no settings": (
        f"{HEAD}\nKIND = TargetKind(dict, opened)",
        "they are no class derived from daemon.targets.settings.TargetSettings",
    ),
    "no kind": (
        f"{HEAD}\nclass S(Base):\n    kind: str = 'toy'{END}",
        "has settings that cannot be used: S.kind must be a Literal of one word",
    ),
    "two words": (
        f"{HEAD}\nclass S(Base):\n    kind: Literal['toy', 'duck']{END}",
        "has settings that cannot be used: S.kind must be a Literal of one word",
    ),
    "no address": (
        f"{HEAD}\nclass S(TargetSettings):\n    kind: Literal['toy']{END}",
        "has settings that cannot be used: S lacks address",
    ),
    "no settle time": (
        f"{HEAD}\nclass S(Placed):\n    kind: Literal['toy']{END}",
        "has settings that cannot be used: S lacks settle_seconds",
    ),
    "an unknown type": (
        f"{HEAD}\nclass S(Base):\n    kind: Literal['toy']\n    file: 'Pth'{END}",
        "has settings that cannot be used: S: PydanticUndefinedAnnotation: name 'Pth' is not def",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plug_in_that_cannot_be_used_says_why(folder: Path, fault: str) -> None:
    code, words = FAULTS[fault]
    install(folder, "broken", code)
    (found,) = loaded(folder)
    assert found.kind is None
    assert words in found.fault
    assert (found.package, found.version, found.name) == ("broken", "1.2", "toy")


class _Sketch(TargetSettings):
    kind: Literal["sketch"] = "sketch"
    settle_seconds: float = 1
    address: ClassVar[str] = "nowhere"


class _Half:
    """Not all of a target."""

    kind = "sketch"

    async def probe(self) -> None:
        raise ZeroDivisionError("division by zero")

    async def aclose(self) -> None: ...


class _Whole(_Half):
    sync = find = preview = compare = repair = None


def _with(monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Any]) -> PlugIn:
    kind = TargetKind(_Sketch, opened)
    made = PlugIn("sketch", "pack", "1.2", "pack:KIND", kind)
    monkeypatch.setattr(registry, "PLUG_INS", [made])
    monkeypatch.setitem(TARGET_KINDS, "sketch", kind)
    return made


def test_a_bug_in_a_factory_names_the_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, lambda _settings: None)
    with pytest.raises(SetupFault) as caught:
        registry.open_target(_Sketch())
    assert str(caught.value).startswith(
        "the plug-in pack 1.2 (entry point sketch = pack:KIND) failed: TypeError: "
    )


def test_what_a_target_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, lambda _settings, _context: _Half())
    with pytest.raises(SetupFault) as caught:
        registry.open_target(_Sketch())
    assert str(caught.value) == (
        "the plug-in pack 1.2 (entry point sketch = pack:KIND) makes no daemon.targets.ports."
        "Target: it lacks sync, preview, compare, repair, find"
    )


async def test_a_bug_in_a_probe_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = _with(monkeypatch, lambda _settings, _context: _Whole())
    configured = settings(tmp_path / "checkpoint.db").model_copy(update={"target": _Sketch()})
    (finding,) = await target_findings(configured)
    assert (finding.subject, finding.verdict) == ("target sketch", Verdict.FAILED)
    assert finding.text == f"the plug-in {made} failed: ZeroDivisionError: division by zero"


def test_the_daemons_own_names_are_taken(folder: Path) -> None:
    install(folder, "thief", "raise SystemExit('imported')", name=DEFAULT_KIND)
    (found,) = loaded(folder)
    assert found.fault == f"takes the name of the built-in kind {DEFAULT_KIND}"


def test_two_plug_ins_of_one_name_are_both_refused(folder: Path) -> None:
    for package in ("first", "second"):
        install(folder, package, None, name="jsonl", value=EXAMPLE)
    faults = [each.fault for each in loaded(folder)]
    assert len(faults) == 2
    for fault in faults:
        assert "first 1.2 (entry point jsonl = " in fault
        assert "second 1.2 (entry point jsonl = " in fault


def test_an_error_that_quotes_a_secret_is_not_repeated(folder: Path) -> None:
    secret = "AKIAIOSFODNN7EXAMPLE"
    install(folder, "broken", f"raise ValueError('bad key {secret}')")
    (found,) = loaded(folder)
    assert "cannot be imported: ValueError: bad key" in found.fault
    assert secret not in found.fault
