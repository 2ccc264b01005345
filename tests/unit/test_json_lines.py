"""JSON Lines are split at line feeds alone, by every reader of recordings and logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.demo.results import logged_outcomes
from tests.support import (
    aws_vectors,
    modeldb_v1_exchanges,
    modeldb_v2_exchanges,
    scripted_addresses,
)
from tests.support.json_lines import json_lines, read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUPPORT = Path(__file__).parents[1] / "support"

RAW = ["\x7f", "\x84", "\x85", "\x86", "\u2027", "\u2028", "\u2029", "\ufeff", "\x85\u2028\u2029"]
"""Characters that JSON texts may hold as they are."""
ESCAPED = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\0"]
"""Those that JSON texts always escape."""
VALUES = [f"a{separator}b" for separator in RAW + ESCAPED]

separators = pytest.mark.parametrize("value", VALUES, ids=lambda value: value.encode().hex())


def written(path: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    path.write_bytes(text.encode())
    return path


@separators
def test_a_value_with_a_line_separator_stays_in_one_line(value: str, tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"name": value}, {value: 2}]
    path = written(tmp_path / "lines.jsonl", entries)
    assert read_json_lines(path) == json_lines(path.read_bytes().decode()) == entries


@separators
def test_recordings_may_hold_it(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hexed = value.encode().hex()
    written(
        tmp_path / "v1.jsonl",
        [
            {
                "name": value,
                "note": value,
                "method": "m",
                "request_hex": hexed,
                "response_hex": None,
                "request": {"value": value},
                "response": None,
            }
        ]
        * 2,
    )
    monkeypatch.setattr(modeldb_v1_exchanges, "FOLDER", tmp_path)
    assert [exchange.name for exchange in modeldb_v1_exchanges.load()] == [value] * 2

    wire = written(
        tmp_path / "v1.jsonl", [{"name": value, "request_hex": hexed, "response_hex": hexed}]
    )
    monkeypatch.setattr(scripted_addresses, "WIRE", wire)
    assert scripted_addresses.recorded(value) == (value.encode(),) * 2

    request = {"method": "GET", "path": "/find", "query": {}, "headers": {}, "body": value}
    response = {"status": 200, "headers": {}, "body": {"value": value}}
    line = {"name": value, "note": value, "request": request, "response": response}
    written(tmp_path / "v1.jsonl", [line] * 2)
    monkeypatch.setattr(modeldb_v2_exchanges, "FOLDER", tmp_path)
    assert [each.response.body for each in modeldb_v2_exchanges.load()] == [{"value": value}] * 2


@separators
def test_indexes_of_aws_answers_may_hold_it(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = aws_vectors.errors()[0]
    record = {
        name: getattr(first, name) for name in type(first).__dataclass_fields__ if name != "body"
    }
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / first.file).write_bytes(first.body)
    written(tmp_path / "errors" / "index.jsonl", [record | {"why": value}] * 2)
    monkeypatch.setattr(aws_vectors, "DATA", tmp_path)
    assert [error.why for error in aws_vectors.errors()] == [value] * 2


@separators
def test_the_demo_reads_a_log_that_holds_it(value: str, tmp_path: Path) -> None:
    entry = {"event": "job outcome", "job": value}
    assert logged_outcomes(written(tmp_path / "daemon.log", [entry, entry])) == [entry, entry]


def test_nothing_that_tests_share_splits_at_other_characters() -> None:
    files = [file for file in SUPPORT.glob("*.py") if ".splitlines(" in file.read_text("utf-8")]
    assert files == []
