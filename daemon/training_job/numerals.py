"""Decimal numbers in every spelling that people and tools use for them: `0.80`, `1e-3`, `.5`.

A key whose values are numbers in one job must not have text in the next only because somebody wrote
a zero more. What merely looks like a number stays text: identifiers with leading zeros (`00420`),
short commit hashes (`1234e56`), versions of three parts, hexadecimal, `1_000`, NaN and infinities.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from daemon.training_job.field_readers import MAX_EXACT

_NUMERAL = re.compile(
    r"""[+-]?
    (?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)? | \.[0-9]+)
    (?:[eE][+-]?[0-9]+)?""",
    re.VERBOSE,
)
_WHOLE = re.compile(r"[+-]?[0-9]+")
_COMMIT_HASH = re.compile(r"(?=.{7,})[0-9]+e[0-9]+")
_NOT_ZERO = re.compile(r"[+-]?[0.]*[1-9]")


def number_in(text: str) -> float | None:
    """The number that a text spells, spaces around it ignored; None for any other text.

    Whole numbers that a double holds exactly are integers; other numbers are the nearest double,
    see `is_exact`. A number beyond the largest double counts as text.
    """
    numeral = text.strip()
    if not _NUMERAL.fullmatch(numeral) or _COMMIT_HASH.fullmatch(numeral):
        return None
    number = float(numeral)
    if not math.isfinite(number):
        return None
    if _WHOLE.fullmatch(numeral) and abs(whole := int(numeral)) <= MAX_EXACT:
        return whole
    return number or 0.0  # without the sign of -0.0, which servers drop


def is_exact(text: str, number: float) -> bool:
    """Whether a number, as it is shown, is what its text spells."""
    numeral = text.strip()
    if number == 0:
        return not _NOT_ZERO.match(numeral)
    return Decimal(numeral) == Decimal(repr(number))
