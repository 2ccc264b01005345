"""Which parts of the daemon may import which: imports point inward, to the pure parts."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ADAPTERS = ("aiobotocore", "aiohttp", "boto3", "botocore", "daemon.aws", "sqlite3", "thriftpy2")

CONTRACTS = [
    # importers, what they may not import, exceptions among the imported
    ("daemon.pipeline.flow", (*ADAPTERS, "daemon.checkpoint.sqlite"), ("daemon.aws.ports",)),
    ("daemon.pipeline", (*ADAPTERS[:4], *ADAPTERS[5:], "daemon.checkpoint.sqlite"), ()),
    ("daemon.targets", ("daemon.aws", "daemon.intake", "daemon.pipeline", "daemon.checkpoint"), ()),
    ("daemon.training_job", ("asyncio", *ADAPTERS, "daemon.config", "daemon.observability"), ()),
]
ONLY_IMPORTED_BY = {
    "daemon.app": ("daemon.cli", "daemon.demo"),
    "daemon.cli": ("daemon.__main__", "daemon.cli", "daemon.demo"),
    "daemon.demo": ("daemon.cli.demo", "daemon.demo"),
}


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports(root: Path) -> Iterator[tuple[str, str]]:
    """Importing and imported module of each import under ``daemon``, those for types included."""
    for path in sorted((root / "daemon").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None, "relative imports are banned"
                # an imported name may be a module
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)


def violations(root: Path) -> list[str]:
    found = set()
    for importer, imported in imports(root):
        for package, forbidden, allowed in CONTRACTS:
            if within(importer, (package,)) and within(imported, forbidden):
                found |= set() if within(imported, allowed) else {f"{importer} imports {imported}"}
        for package, importers in ONLY_IMPORTED_BY.items():
            if within(imported, (package,)) and not within(importer, importers):
                found.add(f"{importer} imports {imported}")
    return sorted(found)


def test_imports_point_inward() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("pipeline/flow.py", "aiohttp"),
        ("pipeline/flow.py", "daemon.aws.dead_letter"),
        ("pipeline/worker.py", "daemon.checkpoint.sqlite.store"),
        ("targets/modeldb_v2/target.py", "daemon.intake.breaker"),
        ("targets/registry.py", "daemon.aws.queue"),
        ("training_job/tags.py", "asyncio"),
        ("intake/poller.py", "daemon.app"),
        ("observability/http.py", "daemon.cli.common"),
        ("cli/check.py", "daemon.demo.screen"),
    ],
)
def test_an_import_that_points_outward_is_found(tmp_path: Path, file: str, imported: str) -> None:
    copy = tmp_path / "daemon" / file
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "daemon" / file, copy)
    copy.write_text(f"{copy.read_text()}\nimport {imported}\n")
    importer = f"daemon/{file}".removesuffix(".py").replace("/", ".")
    assert violations(tmp_path) == [f"{importer} imports {imported}"]
