"""The last hour as two small charts, with the same numbers as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.observability.page.markup import NOTHING, Html, element, join, stream
from daemon.observability.page.words import clock_time, duration, iso, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from daemon.observability.activity import Minute
    from daemon.observability.status import Status

HEIGHT = 100
_SERIES = (
    ("synced", "b-good", ("synced",)),
    ("rejected", "b-bad", ("rejected",)),
    ("other outcomes", "b-plain", ("duplicate", "skipped", "deferred", "held", "released")),
)


def last_hour(status: Status) -> Iterator[Html]:
    """The section with both charts."""
    minutes = status.minutes
    return stream(
        "section",
        element("h2", "Last hour", id="hour-title"),
        stream("div", _figures(status), class_="charts"),
        _restart_note(status),
        stream(
            "details",
            element("summary", "The last hour as a table"),
            stream(
                "div",
                _table(minutes, status.now),
                class_="scroll",
                id="hour-scroll",
                tabindex="0",
                role="region",
                aria_label="The last hour, minute by minute",
            ),
            id="hour-table",
        ),
        class_="card",
        id="hour",
        data_live=True,
        data_key="hour",
        aria_labelledby="hour-title",
    )


def _figures(status: Status) -> Iterator[Html]:
    yield _throughput(status.minutes)
    yield _latency(status.minutes, status.target.system)


def _restart_note(status: Status) -> Html:
    if not status.minutes or status.counted_since <= status.minutes[0].at:
        return NOTHING
    return element(
        "p",
        f"The daemon started at {clock_time(status.counted_since, status.now)}. What is older "
        "comes from the checkpoint: the jobs that were last changed in that minute, without times.",
        class_="quiet small",
    )


def _throughput(minutes: Sequence[Minute]) -> Html:
    counts = [[_count(minute, kinds) for _, _, kinds in _SERIES] for minute in minutes]
    most = max([1, *map(sum, counts)])
    synced = sum(each[0] for each in counts)
    total = sum(map(sum, counts))
    spoken = (
        f"In the last hour {number(synced)} jobs were synced and {number(total)} messages ended in "
        f"all; at most {number(most) if total else 0} in a minute."
    )
    return _figure(
        "Messages per minute",
        spoken,
        list(_stacks(counts, most)),
        most=number(most),
        legend=[(name, class_) for name, class_, _ in _SERIES],
        name="throughput",
    )


def _latency(minutes: Sequence[Minute], system: str) -> Html:
    known = [each for each in minutes if each.slow_seconds is not None]
    most = max([1.0, *(each.slow_seconds or 0.0 for each in known)])
    median = max((each.median_seconds or 0.0 for each in known), default=0.0)
    spoken = (
        f"From the event to the record: the median of a minute was at most {duration(median)}, and "
        f"the slowest twentieth at most {duration(most)}."
        if known
        else "No job whose event tells its time was synced."
    )
    return _figure(
        f"From event to {system}",
        spoken,
        list(_latency_bars(minutes, most)),
        most=duration(most),
        legend=[("median", "c-median"), ("slowest 5 %", "c-slow")],
        name="latency",
    )


def _figure(
    title: str,
    spoken: str,
    shapes: Sequence[Html],
    *,
    most: str,
    legend: Sequence[tuple[str, str]],
    name: str,
) -> Html:
    keys = [element("span", _swatch(class_), words, class_="key") for words, class_ in legend]
    return element(
        "figure",
        element("figcaption", element("strong", title), element("span", *keys, class_="legend")),
        element(
            "div",
            element(
                "svg",
                element("title", title, id=f"{name}-title"),
                element("desc", spoken, id=f"{name}-desc"),
                *shapes,
                viewBox=f"0 0 600 {HEIGHT}",
                preserveAspectRatio="none",
                role="img",
                aria_labelledby=f"{name}-title {name}-desc",
            ),
            element("span", most, class_="most") if shapes else NOTHING,
            NOTHING if shapes else element("span", "Nothing in the last hour", class_="none"),
            class_="plot",
        ),
        element(
            "div",
            element("span", "60 min ago"),
            element("span", "30 min"),
            element("span", "now"),
            class_="axis",
        ),
    )


def _swatch(class_: str) -> Html:
    square = element("rect", width="10", height="10", rx="2", class_=class_)
    return element("svg", square, viewBox="0 0 10 10", aria_hidden="true")


def _stacks(counts: Sequence[Sequence[int]], most: int) -> Iterator[Html]:
    bars: list[list[str]] = [[] for _ in _SERIES]
    for index, each in enumerate(counts):
        base = 0
        for count, series in zip(each, bars, strict=True):
            if count:
                series.append(_bar(index, base / most, count / most))
                base += count
    return _paths((class_, series) for (_, class_, _), series in zip(_SERIES, bars, strict=True))


def _latency_bars(minutes: Sequence[Minute], most: float) -> Iterator[Html]:
    known = [
        (index, each.median_seconds, each.slow_seconds)
        for index, each in enumerate(minutes)
        if each.median_seconds is not None and each.slow_seconds is not None
    ]
    slow = [_bar(index, 0, seconds / most) for index, _, seconds in known]
    median = [_bar(index, 0, seconds / most) for index, seconds, _ in known]
    return _paths((("c-slow", slow), ("c-median", median)))


def _paths(series: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Html]:
    """One shape for all bars of a kind: sixty would be as many elements."""
    return (element("path", d="".join(bars), class_=class_) for class_, bars in series if bars)


def _bar(index: int, bottom: float, part: float) -> str:
    height = max(part * HEIGHT, 1.5)  # one in a thousand is visible
    top = HEIGHT - bottom * HEIGHT - height
    return f"M{index * 10 + 1} {top:.1f}h8v{height:.1f}h-8z"


def _table(minutes: Sequence[Minute], now: float) -> Html | Iterator[Html]:
    busy = [each for each in reversed(minutes) if any(each.outcomes.values())]
    if not busy:
        return element("p", "Nothing happened in the last hour.", class_="quiet")
    heads = ["Minute", *(name.capitalize() for name, _, _ in _SERIES), "Median", "Slowest 5 %"]
    return stream(
        "table",
        element("caption", "Messages and times by the minute, newest first", class_="hidden"),
        element("thead", element("tr", *(element("th", head, scope="col") for head in heads))),
        stream("tbody", (_row(each, now) for each in busy)),
    )


def _row(minute: Minute, now: float) -> Html:
    cells: list[str] = [
        element("time", clock_time(minute.at, now)[:-4], datetime=iso(minute.at)),
        *(number(_count(minute, kinds)) for _, _, kinds in _SERIES),
        "—" if minute.median_seconds is None else duration(minute.median_seconds),
        "—" if minute.slow_seconds is None else duration(minute.slow_seconds),
    ]
    return element("tr", join(*(element("td", cell) for cell in cells)))


def _count(minute: Minute, kinds: Sequence[str]) -> int:
    return sum(minute.outcomes.get(kind, 0) for kind in kinds)
