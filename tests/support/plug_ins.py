"""Installed packages that bring a kind of target, as folders of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.plugins import GROUP

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = "docs.examples.jsonl_target:JSONL"
"""The example of docs/write-a-target.md, for an entry point of the name ``jsonl``."""
TALKATIVE_EXAMPLE = """
from dataclasses import replace

from docs.examples.jsonl_target import JSONL


async def diagnosis(settings):
    return (f"make the folder {settings.file.parent}",)


KIND = replace(JSONL, advice=lambda settings: (f"see {settings.file}",), diagnosis=diagnosis)
"""
"""Code of a package: the example with something to say in `check`."""


def install(
    folder: Path, package: str, code: str | None, *, name: str = "toy", value: str = ""
) -> None:
    """Puts a package with one entry point of the group into a folder of the module path.

    Args:
        folder: on ``sys.path`` or ``PYTHONPATH``.
        package: its name, in the form of a module.
        code: of its only module, which has the package's name; None: there is none.
        name: of the entry point.
        value: of the entry point; "": the module's ``KIND``.
    """
    if code is not None:
        (folder / f"{package}.py").write_text(code)
    metadata = folder / f"{package}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        f"[{GROUP}]\n{name} = {value or f'{package}:KIND'}\n"
    )
