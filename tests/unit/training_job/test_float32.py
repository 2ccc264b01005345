"""32-bit floats shown with the digits they have."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.training_job.float32 import without_float32_noise


def single(value: float) -> float:
    found: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return found


@pytest.mark.parametrize(
    ("arrived", "shown"),
    [
        (0.003599999938160181, 0.0036),
        (0.8999999761581421, 0.9),
        (0.9712499976158142, 0.97125),
        (2.3809523582458496, 2.3809524),
        (0.1793152242898941, 0.17931522),
        (198.77099609375, 198.771),
        (20.123600006103516, 20.1236),
        (-0.10000000149011612, -0.1),
        (1.401298464324817e-45, 1e-45),
        (1.0000000200408773e20, 1e20),
        (3.4028234663852886e38, 3.4028235e38),
        (9.999999974752427e-07, 1e-06),
    ],
)
def test_noise_is_cut_off(arrived: float, shown: float) -> None:
    assert without_float32_noise(arrived) == shown
    assert without_float32_noise(shown) == shown


@pytest.mark.parametrize(
    "value",
    [
        *(0.0, 1.0, 0.5, 0.25, -0.75, 0.0009765625, 5.0, 16777216.0, 1073741824.0, 123456792.0),
        *(0.9, 0.97125, 0.1, 1e-12, 0.12345678901234567, 3.141592653589793, 2 / 3),
        *(1e300, 1.7976931348623157e308, 1e-300, 5e-324, 9007199254740992.0 - 1),
        *(3.4028235677973366e38, 8388608.5),
    ],
)
def test_what_is_no_noise_stays(value: float) -> None:
    assert without_float32_noise(value) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_it_stays_the_same_32_bit_float(value: float) -> None:
    shown = without_float32_noise(value)
    assert single(shown) == value
    assert len(repr(shown)) <= len(repr(value))
    assert without_float32_noise(shown) == shown


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: abs(value) < 3e38))
def test_other_numbers_stay(value: float) -> None:
    assert without_float32_noise(value) == value or single(value) == value
