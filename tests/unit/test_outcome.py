"""`REASONS` is complete, and the program uses each reason with its own kind of outcome."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from daemon.outcome import REASONS, Outcome
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

DAEMON = Path(__file__).parents[2] / "daemon"
KIND = {outcome.__name__: outcome.kind for outcome in get_args(Outcome)} | {
    "EdgeFault": "held",
    "JobFault": "deferred",
    "JobRefused": "rejected",
}
"""The kind of outcome that each class makes."""


def reasons_in_source() -> Iterator[tuple[str, Reason]]:
    """(kind, reason) of each constructor call in the package that names its reason."""
    for path in DAEMON.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in KIND:
                continue
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                for part in ast.walk(argument):
                    if (
                        isinstance(part, ast.Attribute)
                        and isinstance(part.value, ast.Name)
                        and part.value.id == "Reason"
                    ):
                        yield KIND[node.func.id], Reason[part.attr]


def test_each_reason_belongs_to_exactly_one_kind() -> None:
    assert set(REASONS) == {outcome.kind for outcome in get_args(Outcome)}
    known = [reason for reasons in REASONS.values() for reason in reasons]
    assert sorted(known) == sorted(Reason)


def test_each_reason_is_used_with_its_kind_only() -> None:
    used = set(reasons_in_source())
    assert len(used) > 20
    assert {(kind, reason) for kind, reason in used if reason not in REASONS[kind]} == set()
