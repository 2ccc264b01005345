"""The page of one job: what became of it, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.advice import advice
from daemon.observability.page.frame import page
from daemon.observability.page.job_table import (
    aws_links,
    badge,
    project_of,
    run_link,
)
from daemon.observability.page.markup import NOTHING, Html, element, join, link, stream
from daemon.observability.page.words import clock_time, duration, iso, number, spoken, when
from daemon.story import StoryEvent
from daemon.targets.place import system_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.checkpoint.ports import JobRecord
    from daemon.checkpoint.reading import JobHistory
    from daemon.observability.status import Status
    from daemon.story import StoryEntry


def job_page(
    job_arn: str,
    history: JobHistory,
    status: Status,
    *,
    problem: str = "",
    refresh: int | None = None,
) -> Iterator[Html]:
    """The whole page, piece by piece.

    Args:
        job_arn: as asked for.
        history: of the job; without records, the checkpoint has nothing of it.
        status: of the daemon.
        problem: why the history could not be read; "" if it was.
        refresh: as `daemon.observability.page.frame.page`.
    """
    name = job_arn.rpartition("/")[2] or job_arn
    return page(
        f"{name[:100]} · {status.target.system} sync",
        status,
        element("nav", link("/", "← All jobs"), aria_label="Back"),
        stream(
            "div",
            *_contents(job_arn, history, status, problem),
            id="job",
            data_live=True,
        ),
        refresh=refresh,
    )


def _contents(
    job_arn: str, history: JobHistory, status: Status, problem: str
) -> list[Html | Iterator[Html]]:
    if problem or not (history.records or history.story):
        name = job_arn.rpartition("/")[2] or job_arn
        words = problem or (
            "The checkpoint has nothing of this job: no message about it has been handled, or it "
            "was too long ago. The verb explain says what SageMaker knows of it."
        )
        return [
            element(
                "section",
                element("h1", name),
                element("p", words, class_="note bad" if problem else "note"),
                class_="card",
                aria_label="Job",
            )
        ]
    records: list[Html | Iterator[Html]] = [
        _record(record, history, status, first=index == 0)
        for index, record in enumerate(history.records)
    ]
    if not records:
        name = job_arn.rpartition("/")[2]
        records = [element("section", element("h1", name), class_="card", aria_label="Job")]
    return [*records, _story(history.story, status.now)]


def _record(record: JobRecord, history: JobHistory, status: Status, *, first: bool) -> Html:
    known = advice(record.reason)
    name = record.job_name or record.job_arn.rpartition("/")[2]
    working_on = history.working_on if first else None
    return element(
        "section",
        element(
            "div",
            element("h1" if first else "h2", name),
            badge(record.state),
            class_="headline",
        ),
        element("p", f"{known.means} {known.do}", class_="lead") if known else NOTHING,
        element("p", "A process works on it now.", class_="note") if working_on else NOTHING,
        _actions(record),
        element("dl", *_facts(record, status.now), class_="facts"),
        _steps(record),
        class_="card",
        aria_label=f"Job {name}",
        data_key=f"{record.creation_time} {record.target} {record.place}",
    )


def _actions(record: JobRecord) -> Html:
    in_aws, logs = aws_links(record)
    wanted = (
        (f"Run in {system_name(record.target)}", run_link(record)),
        ("Job in SageMaker", in_aws),
        ("Logs in CloudWatch", logs),
    )
    found = [link(address, words) for words, address in wanted if address is not None]
    return element("p", *found, class_="actions") if found else NOTHING


def _facts(record: JobRecord, now: float) -> list[Html]:
    ids = record.target_ids
    rows: list[tuple[str, str]] = [
        ("Why", spoken(record.reason)),
        ("Detail", record.detail),
        ("Project", project_of(record)),
        ("Experiment", ids.get("experiment", "")),
        ("Run", ids.get("run", "") or ids.get("run_id", "")),
        ("Created", record.creation_time),
        ("First seen", _time(record.first_seen_at, now)),
        ("Last changed", _time(record.updated_at, now)),
        ("Attempts put off", number(record.attempts) if record.attempts else ""),
        (
            "Unanswered writes",
            number(record.unanswered_writes) if record.unanswered_writes else "",
        ),
        ("ARN", element("span", record.job_arn, class_="mono")),
        ("Message", element("span", record.message_id, class_="mono")),
        ("Target", f"{record.target} at {record.place or 'unknown place'}"),
    ]
    rows += [
        (f"{system_name(record.target)}'s {spoken(key)}", element("span", value, class_="mono"))
        for key, value in ids.items()
        if key in {"project_id", "experiment_id", "run_id"}
    ]
    return [join(element("dt", name), element("dd", value)) for name, value in rows if value]


def _story(story: Sequence[StoryEntry], now: float) -> Html | Iterator[Html]:
    if not story:
        return NOTHING
    return stream(
        "section",
        element("h2", "Story"),
        stream("ol", _entries(story, now), class_="story"),
        class_="card",
        aria_label="Story",
    )


def _entries(story: Sequence[StoryEntry], now: float) -> Iterator[Html]:
    last: StoryEntry | None = None
    said = {"message": "", "process": ""}
    for entry in story:
        about = {"message": entry.message_id, "process": entry.owner}
        news = {name: value for name, value in about.items() if value and value != said[name]}
        said |= news
        yield _entry(entry, news, _moment(entry, last, now))
        last = entry


def _entry(entry: StoryEntry, news: Mapping[str, str], moment: Html) -> Html:
    name, class_ = _EVENTS.get(entry.what, (spoken(entry.what).capitalize(), ""))
    if entry.what is StoryEvent.OUTCOME:
        class_ = _OUTCOMES.get(entry.detail.partition(" ")[0].strip(",:"), "")
    about = ", ".join(f"{each} {value}" for each, value in news.items())
    return element(
        "li",
        element("strong", name),
        " ",
        element("span", moment, class_="quiet"),
        element("p", entry.detail) if entry.detail else NOTHING,
        element("p", about, class_="quiet small") if about else NOTHING,
        class_=class_ or None,
        data_key=f"{entry.at} {entry.what}",
    )


def _moment(entry: StoryEntry, last: StoryEntry | None, now: float) -> Html:
    at = element("time", clock_time(entry.at, now), datetime=iso(entry.at))
    if last is None:
        return join(at, ", ", when(entry.at, now))
    return join(at, f", {duration(entry.at - last.at)} later")


_EVENTS = {
    StoryEvent.RECEIVED: ("Message received", ""),
    StoryEvent.JOINED: ("Joined an earlier message", ""),
    StoryEvent.CLAIMED: ("Claimed", ""),
    StoryEvent.DESCRIBED: ("Described by SageMaker", ""),
    StoryEvent.TAGS_READ: ("Tags read", ""),
    StoryEvent.WRITE_BEGUN: ("Write begun", ""),
    StoryEvent.STEP_WRITTEN: ("Part of the write done", ""),
    StoryEvent.HELD: ("Held: a dependency did not work", "wait"),
    StoryEvent.GIVEN_BACK: ("Given back without an outcome", "wait"),
    StoryEvent.OUTCOME: ("Outcome", ""),
    StoryEvent.ENQUEUED: ("Sent to the queue", ""),
    StoryEvent.REDRIVEN: ("Dead letter sent back to the queue", ""),
    StoryEvent.HANDED_OVER: ("Handed to the daemon by sync", ""),
    StoryEvent.REPAIRED: ("Run repaired", "good"),
}
"""How people read an event, and its class."""

_OUTCOMES = {"synced": "good", "duplicate": "good", "rejected": "bad", "deferred": "wait"}
"""Classes by the first word of the detail."""


def _time(at: float, now: float) -> Html:
    return join(when(at, now), element("span", f" ({clock_time(at, now)})", class_="quiet"))


def _steps(record: JobRecord) -> Html:
    if not record.steps:
        return NOTHING
    steps = [element("li", f"{name}: {value}") for name, value in sorted(record.steps.items())]
    return join(
        element("h2", "Completed steps of the write", class_="lead"),
        element("ol", *steps, class_="story"),
    )
