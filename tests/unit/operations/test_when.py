from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon.operations.when import BadWhen, Period, age_text, moment_text, parse_when

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("7d", NOW - 7 * DAY),
        ("12h", NOW - DAY / 2),
        ("90m", NOW - 5400),
        ("2W", NOW - 14 * DAY),
        (" 30s ", NOW - 30),
        ("0d", NOW),
        ("2026-11-29", NOW - DAY / 2),
        ("2026-11-29T11:00", NOW - 3600),
        ("2026-11-29 11:00:00.5", NOW - 3599.5),
        ("2026-11-29T11:00Z", NOW - 3600),
        ("2026-11-29T13:00+02:00", NOW - 3600),
    ],
)
def test_what_people_type(text: str, moment: float) -> None:
    assert parse_when(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "7", "d", "-7d", "7.5d", "7d\x1b[2J", "9999999d"),
        *("2026-13-01", "2026-02-30", "99999w", "1999-12-31", "0001-01-01T00:00+14:00"),
    ],
)
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(BadWhen, match=r"give one of 7d, 12h, .*2026-11-20T08:30 \(UTC\)") as caught:
        parse_when(text, NOW)
    assert "\x1b" not in str(caught.value)


def test_a_period_ends_now_unless_it_ends_earlier() -> None:
    assert Period.of(NOW - 9, None, NOW) == Period.of(NOW - 9, NOW + 9, NOW) == Period(NOW - 9, NOW)
    assert Period.of(NOW - 9, NOW - 5, NOW) == Period(NOW - 9, NOW - 5)


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        (NOW - 5, NOW - 9, "--until (2026-11-29 11:59:51Z) is not after --since"),
        (NOW - 5, NOW - 5, "is not after --since"),
        (NOW + 5, None, "--since is in the future (2026-11-29 12:00:05Z)"),
    ],
)
def test_a_period_that_is_none_is_refused(since: float, until: float | None, words: str) -> None:
    with pytest.raises(BadWhen) as caught:
        Period.of(since, until, NOW)
    assert words in str(caught.value)


def test_moments_and_ages_for_people() -> None:
    assert moment_text(NOW) == "2026-11-29 12:00:00Z"
    ages = [(-1, "0 s"), (119, "119 s"), (300, "5 min"), (7200, "2 h"), (4 * DAY, "4 days")]
    assert [age_text(seconds) for seconds, _ in ages] == [words for _, words in ages]
