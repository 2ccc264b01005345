"""Strategies: texts, numbers, times and values that tend to break programs. They are built once,
because building them is slow.
"""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "\x00",
        "\x7f",
        "\x85",
        "\ud800",
        "\udfff\ud800",
        "a\x00b",
        "\ufeff",
        "\u2028",
        "\u200b",
        "\u00a0",
        "…",
    ),
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1e400",
        "1e-7",
        "1.10",
        "00420",
        "9" * 400,
        "1_0",
    ),
    *(
        "[]",
        "{}",
        '""',
        '"a"',
        "[1, 2]",
        '{"$oid": "x"}',
        '"',
        "[NaN]",
        "[1e999]",
        '"\\ud800"',
        "[" * 3000,
        "9007199254740993",
    ),
    *(
        "$",
        "$x",
        ".",
        "a.b",
        "_id",
        "MODELDB_model_id",
        "%2E",
        "%",
        "model.pkl",
        "s3://b/k.tar.gz",
        "arn:aws:s3:::b",
    ),
    *(
        "😀",
        "😀" * 130,
        "é" * 1001,
        "<>&='" * 500,
        "x" * 41,
        "y" * 251,
        "z" * 2001,
        "\u0301",
        "ﬁ",
        "İ",
        "K",
    ),
)
"""Each has once been trouble for some program."""
_ODD_CHARACTERS = st.sampled_from(
    "\ud800\udfff\x00\x07\x7f\x85\r\n\t \u2028\ufeff.:=<&'\"\\$%/😀éa"
)

_ENDS = (datetime.min, datetime.max)  # noqa: DTZ901 - a time without a zone may come, too
_EAST, _WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))


@functools.cache
def texts(most: int = 20) -> st.SearchStrategy[str]:
    """Any text, including lone surrogates and control characters; occasionally a long one."""
    return st.one_of(
        st.text(max_size=most),
        st.text(_ODD_CHARACTERS, max_size=8),
        st.sampled_from(ODD_TEXTS),
        st.builds(
            lambda part, times: part * times,
            st.text(st.characters(), min_size=1, max_size=4),
            st.integers(1, 800),
        ),
    )


@functools.cache
def sendable_texts(most: int = 20) -> st.SearchStrategy[str]:
    """Any text that UTF-8 can encode."""
    return texts(most).filter(
        lambda text: not any("\ud800" <= character <= "\udfff" for character in text)
    )


@functools.cache
def times() -> st.SearchStrategy[datetime]:
    """Any moment, with any zone or none."""
    minutes = st.integers(-1439, 1439)
    zones: st.SearchStrategy[Any] = (
        st.none() | st.just(UTC) | minutes.map(lambda offset: timezone(timedelta(minutes=offset)))
    )
    return st.one_of(
        st.datetimes(timezones=zones),
        st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=zones),  # noqa: DTZ001 - the zones come beside them
        st.sampled_from(
            [end.replace(tzinfo=zone) for end in _ENDS for zone in (UTC, _EAST, _WEST)]
        ),
        st.sampled_from(_ENDS),
    )


@functools.cache
def numbers() -> st.SearchStrategy[float]:
    """Any whole number or float, NaN and infinities included."""
    edges = [
        2**31,
        2**53,
        2**53 + 1,
        2**63,
        -(2**63) - 1,
        10**400,
        1e308,
        -1e308,
        5e-324,
        math.nan,
        math.inf,
        -0.0,
    ]
    return st.integers() | st.floats() | st.sampled_from(edges)


@functools.cache
def json_values() -> st.SearchStrategy[Any]:
    """Any value that `json.dumps` writes, NaN included."""
    return st.recursive(
        st.none() | st.booleans() | numbers() | texts(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(8), inner, max_size=4),
        max_leaves=8,
    )


@functools.cache
def anything() -> st.SearchStrategy[Any]:
    """Any value that a client library may return, whatever its type should be."""
    return st.one_of(
        json_values(),
        times(),
        st.binary(max_size=8),
        st.dictionaries(st.integers() | st.none(), texts(8), max_size=2),
    )
