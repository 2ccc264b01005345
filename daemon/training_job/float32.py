"""32-bit floats that arrive as 64-bit ones, as SageMaker's metric values do."""

from __future__ import annotations

import struct

_FLOAT32 = struct.Struct("<f")
_DIGITS = 9
"""Enough for any 32-bit float."""
_EXACT_COUNTS = 2.0**53


def without_float32_noise(value: float) -> float:
    """The shortest decimal number that is the same 32-bit float: 0.9 for 0.8999999761581421.

    A value that is not exactly a 32-bit float is returned as it is. So is a whole number, which may
    be a count.
    """
    if value.is_integer() and abs(value) < _EXACT_COUNTS:
        return value
    try:
        if _rounded(value) != value:
            return value
    except OverflowError:
        return value
    candidates = (float(f"{value:.{digits}g}") for digits in range(1, _DIGITS))
    return next((each for each in candidates if _is_same(each, value)), float(f"{value:.9g}"))


def _is_same(candidate: float, value: float) -> bool:
    try:
        return _rounded(candidate) == value
    except OverflowError:
        return False


def _rounded(value: float) -> float:
    found: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return found
