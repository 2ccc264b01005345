"""Numbers in every decimal spelling."""

from __future__ import annotations

import pytest

from daemon.training_job.hyperparameters import Hyperparameter, decoded
from daemon.training_job.numerals import is_exact, number_in

SAME = {
    0.8: ["0.8", "0.80", "0.800", ".8", "+0.8", "8e-1", "8E-1", "80e-2", " 0.8", "0.8\n"],
    0.001: ["0.001", "1e-3", "1E-3", "1e-03", "1.0e-3", "0.1e-2", ".001", "+1e-3"],
    5: ["5", "+5", " 5 ", "5.", "5.0", "5.00", "5e0", "0.5e1", "50e-1"],
    -2.5: ["-2.5", "-2.50", "-25e-1", "-.25e1", "-2.5E0"],
    0: ["0", "-0", "+0", "0.0", "-0.0", ".0", "0.", "0e0", "0.00e5"],
    100_000: ["100000", "1e5", "1E5", "1E+5", "1e+05", "100000.0", "1.e5"],
    1.1: ["1.1", "1.10", "1.100"],
    2**53: ["9007199254740992", "9007199254740992.0", "9.007199254740992e15"],
}
ROUNDED = [
    "9007199254740993",
    "-9007199254740993",
    "18446744073709551615",
    "1" * 30,
    "0.12345678901234567890",
    "3.14159265358979323846",
    "1234567890123456.789",
    "1e-400",
    "9007199254740993.5",
    "0.1" + "0" * 30 + "1",
]
TEXTS = [
    *("00420", "007", "-007", "+07", "00.5", "00", "1.10.2", "10.0.0.1", "1_000", "1,000"),
    *("0x10", "0b1", "1e", "e5", ".", "-", "+", ".e5", "--1", "+-1", "1 000", "5%", "1/2"),
    *("NaN", "nan", "inf", "-inf", "Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000),
    *("2024-01-01", "12:30", "1d", "1f", "1.5B", "32k", "1e3x", "\u0661", "\uff11", "²"),
    *("1234e56", "12345e6", "000012e3", "", " ", "\n"),
]


@pytest.mark.parametrize("number", SAME, ids=str)
def test_every_spelling_of_a_number_is_that_number(number: float) -> None:
    for text in SAME[number]:
        found = number_in(text)
        assert found == number, text
        assert is_exact(text, found), text
        assert str(found) in {str(number), str(float(number))}, text


@pytest.mark.parametrize("text", ROUNDED, ids=lambda text: text[:25])
def test_a_number_with_more_digits_than_a_double_holds_is_rounded(text: str) -> None:
    assert number_in(text) == float(text)
    assert Hyperparameter("seed", text, decoded(text)).is_rounded


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:25])
def test_what_only_looks_like_a_number_stays_text(text: str) -> None:
    assert number_in(text) is None
    assert decoded(text) == text
    assert not Hyperparameter("key", text, text).is_rounded


@pytest.mark.parametrize("text", ["true", "false", "null", "[1]", '"1"', "adam"])
def test_other_values_are_no_numbers(text: str) -> None:
    parameter = Hyperparameter("key", text, decoded(text))
    assert parameter.number is None
    assert not parameter.is_rounded
