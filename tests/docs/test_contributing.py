"""`CONTRIBUTING.md` names every folder of the program and of the tests, and only what exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`((?:daemon|tests|tools|deploy|docs|benchmarks)/[\w./]*)`", TEXT))


def test_what_it_names_exists() -> None:
    assert len(NAMED) > 30
    assert [name for name in sorted(NAMED) if not (ROOT / name).exists()] == []


def test_every_folder_and_every_module_beside_them_is_in_the_tree() -> None:
    folders = {
        f"{top}/{path.name}/"
        for top in ("daemon", "tests")
        for path in (ROOT / top).iterdir()
        if path.is_dir() and any(path.rglob("*.py")) and path.name != "__pycache__"
    }
    modules = {f"daemon/{path.name}" for path in (ROOT / "daemon").glob("[!_]*.py")}
    assert (folders | modules) - NAMED == set()


def test_its_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = set(re.findall(r"\bmake ([a-z][a-z-]+)", TEXT))
    assert {"check", "test", "test-all", "coverage", "docs"} <= commands
    assert commands <= set(re.findall(r"(?m)^([a-z-]+):", makefile))
