"""Hyperparameters and their typed values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.training_job.hyperparameters import decoded

if TYPE_CHECKING:
    import pytest

DECODED: list[tuple[str, Any]] = [
    *[
        ("adam", "adam"),
        ('"adam"', "adam"),
        ('"0.1"', "0.1"),
        ('""', ""),
        ("", ""),
        (" ", " "),
        ('"adam', '"adam'),
        ('"a\\nb"', "a\nb"),
    ],
    *[("true", True), ("false", False), ("null", None), ("True", "True"), ("None", "None")],
    *[
        ("0", 0),
        ("10", 10),
        ("-3", -3),
        ("9007199254740992", 2**53),
        ("9007199254740993", float(2**53)),
        ("-0", 0),
    ],
    *[
        ("00420", "00420"),
        ("+1", 1),
        ("1_000", "1_000"),
        ("\u0661", "\u0661"),
        ("1" * 30, float("1" * 30)),
        ("9" * 5000, "9" * 5000),
    ],
    *[
        ("0.1", 0.1),
        ("-2.5", -2.5),
        ("0.0", 0.0),
        ("1.0", 1.0),
        ("1e-05", 1e-05),
        ("1e+16", 1e16),
        ("0.21340000000000003", 0.21340000000000003),
    ],
    *[
        ("1.10", 1.1),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-0.0", 0.0),
        ("1e999", "1e999"),
    ],
    *[
        ("NaN", "NaN"),
        ("nan", "nan"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("0.1 ", 0.1),
        ("0x10", "0x10"),
    ],
    *[
        ("[256, 0.5]", [256, 0.5]),
        ('{"a": {"b": null}}', {"a": {"b": None}}),
        ("[1, 2", "[1, 2"),
        ("{not json}", "{not json}"),
    ],
    *[
        ("[NaN]", "[NaN]"),
        ("[1e999]", "[1e999]"),
        ("[" * 100_000, "[" * 100_000),
        ("[" * 900 + "]" * 900, None),
    ],
    *[('"\\ud800"', "\ufffd"), ('["\\u0000"]', ["\ufffd"]), ('{"\\ud800": 1}', {"\ufffd": 1})],
]


def test_decoding_changes_nothing_but_json_and_numbers(subtests: pytest.Subtests) -> None:
    for text, value in DECODED:
        with subtests.test(repr(text)[:30]):
            read = decoded(text)
            if value is None and text != "null":
                assert read == text or json.dumps(read) == text
            else:
                assert read == value
                assert type(read) is type(value)
