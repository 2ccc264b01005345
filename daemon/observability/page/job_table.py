"""The list of jobs, and the form that searches it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from daemon.advice import advice
from daemon.checkpoint.ports import JobState
from daemon.observability.page.markup import NOTHING, Html, element, join, link, stream
from daemon.observability.page.words import clock_time, spoken, when
from daemon.training_job.identity import JobArn
from daemon.training_job.links import job_page, logs_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.checkpoint.ports import JobRecord, RejectedMessage
    from daemon.checkpoint.reading import FoundJobs, JobSearch

SHOWN_DETAIL = 300
"""Characters of a detail in the list."""

STATE_CLASSES = {
    JobState.SYNCED: "good",
    JobState.REJECTED: "bad",
    JobState.WRITING: "wait",
    JobState.ENQUEUED: "wait",
    JobState.RELEASED: "wait",
}


@dataclass(frozen=True, slots=True)
class JobList:
    """What the list shows."""

    wanted: JobSearch
    found: FoundJobs
    unnamed: Sequence[RejectedMessage] = ()
    """Rejected messages that name no job."""
    problem: str = ""
    """Why nothing, or not what was asked for, is shown."""


def query_of(wanted: JobSearch) -> str:
    """A search as the query of an address; "" for all jobs."""
    before = wanted.before
    members = {
        "job": wanted.job,
        "project": wanted.project,
        "outcome": wanted.state or "",
        "reason": wanted.reason,
        "before": "" if before is None else f"{before.updated_at!r}-{before.row}",
    }
    query = urlencode({key: value for key, value in members.items() if value}, errors="replace")
    return f"?{query}" if query else ""


def job_address(job_arn: str) -> str:
    """The address of a job's page."""
    return f"/jobs/{quote(job_arn, safe=':/', errors='replace')}"


def run_link(record: JobRecord) -> str | None:
    """The run's page in ModelDB; None if its address is not known."""
    return record.target_ids.get("run_url")


def project_of(record: JobRecord) -> str:
    """The project's name, where it is known."""
    return record.project or record.target_ids.get("project", "")


def aws_links(record: JobRecord) -> tuple[str | None, str | None]:
    """The job and its logs in the AWS console."""
    try:
        arn = JobArn.parse(record.job_arn)
    except ValueError:
        return None, None
    name = record.job_name or arn.name
    return job_page(arn, name), logs_page(arn, name)


def badge(state: str) -> Html:
    """The state of a row, in its colour."""
    class_ = STATE_CLASSES.get(JobState(state), "plain")
    return element("span", spoken(state), class_=f"badge {class_}")


def job_list(shown: JobList, now: float) -> Iterator[Html]:
    """The section with the search form and the jobs."""
    return stream(
        "section",
        element("h2", "Jobs", id="jobs-title"),
        _form(shown.wanted),
        stream(
            "div",
            element("p", shown.problem, class_="note bad") if shown.problem else NOTHING,
            _searched(shown, now),
            _table(shown, now),
            _pages(shown),
            _unnamed(shown.unnamed, now),
            id="jobs",
            data_live=True,
        ),
        class_="card",
        aria_labelledby="jobs-title",
    )


def _form(wanted: JobSearch) -> Html:
    options = [element("option", "any outcome", value="")]
    options += [
        element("option", spoken(state), value=state.value, selected=state is wanted.state)
        for state in JobState
    ]
    return element(
        "form",
        element(
            "label",
            "Job or ARN contains",
            element("input", type="search", name_="job", value=wanted.job, maxlength="200"),
        ),
        element(
            "label",
            "Project contains",
            element("input", type="search", name_="project", value=wanted.project, maxlength="200"),
        ),
        element("label", "Outcome", element("select", *options, name_="outcome"), class_="short"),
        element("button", "Search", type="submit"),
        link("/", "Clear") if _is_search(wanted) else NOTHING,
        class_="search",
        action="/",
        method="get",
        role="search",
        aria_label="Jobs",
    )


def _is_search(wanted: JobSearch) -> bool:
    return query_of(wanted) != ""


def _searched(shown: JobList, now: float) -> Html:
    back_to = shown.found.searched_back_to
    if back_to is None:
        return NOTHING
    return element(
        "p",
        f"Searched back to {clock_time(back_to, now)}, then the time for one page was up. ",
        "Older jobs whose name begins with the text, or of just this project, are listed all the "
        "same. "
        if (shown.wanted.job or shown.wanted.project) and shown.wanted.before is None
        else "",
        link(query_of(replace(shown.wanted, before=shown.found.next)), "Search further back"),
        class_="note",
        role="status",
    )


def _table(shown: JobList, now: float) -> Html | Iterator[Html]:
    jobs = shown.found.jobs
    if not jobs:
        if shown.problem:
            return NOTHING
        words = (
            "No job matches."
            if _is_search(shown.wanted)
            else "No job is recorded yet. Jobs appear here when they end and have the sync tag."
        )
        return element("p", words, class_="empty")
    several = len({(job.target, job.place) for job in jobs}) > 1
    heads = ["Job", "Outcome", "Project", "Why", "Changed", "Open"]
    head = element(
        "tr", *(element("th", each, scope="col", role="columnheader") for each in heads), role="row"
    )
    return stream(
        "table",
        element("caption", "Jobs, most recently changed first", class_="hidden"),
        element("thead", head, role="rowgroup"),
        stream("tbody", (_row(job, now, several=several) for job in jobs), role="rowgroup"),
        class_="jobs",
        role="table",  # on a narrow screen its display is no table's
    )


def _row(job: JobRecord, now: float, *, several: bool) -> Html:
    name = job.job_name or job.job_arn.rpartition("/")[2] or "unnamed"
    place = f"{job.target} at {job.place}" if several else ""
    detail = job.detail[:SHOWN_DETAIL]
    more = [element("span", words, class_="detail") for words in (detail, place) if words]
    known = advice(job.reason)
    cells = (
        ("job", join(link(job_address(job.job_arn), name), *more)),
        ("outcome", badge(job.state)),
        ("project", project_of(job)),
        (
            "why",
            element("span", spoken(job.reason), title=None if known is None else known.means),
        ),
        ("age", when(job.updated_at, now)),
        ("links", _links(job, name)),
    )
    return element(
        "tr",
        *(element("td", cell, class_=class_, role="cell") for class_, cell in cells),
        role="row",
        data_key=f"{job.job_arn} {job.creation_time} {job.target} {job.place}",
    )


def _links(job: JobRecord, name: str) -> Html:
    in_aws, logs = aws_links(job)
    wanted = (("Run", run_link(job)), ("Job", in_aws), ("Logs", logs))
    return join(
        *(
            link(address, words, aria_label=f"{words} of {name}")
            for words, address in wanted
            if address is not None
        )
    )


def _pages(shown: JobList) -> Html:
    older = shown.found.next
    newest = link(query_of(replace(shown.wanted, before=None)) or "/", "Newest")
    further = link(query_of(replace(shown.wanted, before=older)), "Older jobs")
    return element(
        "nav",
        newest if shown.wanted.before is not None else NOTHING,
        further if older is not None and shown.found.searched_back_to is None else NOTHING,
        class_="pages",
        aria_label="Pages of jobs",
    )


def _unnamed(messages: Sequence[RejectedMessage], now: float) -> Html:
    if not messages:
        return NOTHING
    rows = [
        element(
            "li",
            when(each.rejected_at, now),
            f" · {spoken(each.reason)} · message {each.message_id} · {each.detail[:SHOWN_DETAIL]}",
        )
        for each in messages
    ]
    return element(
        "details",
        element("summary", "Rejected messages that name no job"),
        element("ul", *rows, class_="small"),
        id="unnamed",
    )
