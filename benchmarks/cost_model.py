"""What a million jobs cost, and what limits at 10, 100 and 1,000 times the jobs.

    python -m benchmarks.cost_model          # prints the tables
    python -m benchmarks.cost_model --write  # puts them into docs/scaling.md

On paper: public list prices of us-east-1 as we know them (check them), without the free tier, and
figures measured elsewhere in this repository. A test compares the tables with the document.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
MILLION = 1_000_000
HOURS_A_MONTH = 730
DAYS_A_MONTH = HOURS_A_MONTH / 24
SECONDS_A_DAY = 86_400

# Prices in US dollars
SQS_REQUEST = 0.40 / MILLION
DYNAMODB_WRITE_UNIT = 0.625 / MILLION
DYNAMODB_READ_UNIT = 0.125 / MILLION
DYNAMODB_GB_MONTH = 0.25
FARGATE_VCPU_HOUR = 0.04048
FARGATE_GB_HOUR = 0.004445
LAMBDA_REQUEST = 0.20 / MILLION
LAMBDA_GB_SECOND = 0.0000166667
STATE_TRANSITION = 25.0 / MILLION
LOG_GB = 0.50

# The daemon
ITEM_KB = (1.4, 1.7)
"""Size of the DynamoDB item at the intent and at the end of a job, as the store writes them; a
longer story or detail adds to it."""
INDEX_ENTRY_KB = 0.8
INDEXES = 2
READ_UNITS = 1.0
"""One strongly consistent read of an item that is not there yet."""
LOG_KB = 0.9
"""One line a job."""
VCPU, MEMORY_GB = 0.25, 0.5
"""Of a task."""
CPU_SECONDS = 0.010
"""Of a job, generously; docs/performance.md has what was measured."""
MAX_IN_FLIGHT = 64
IN_FLIGHT_LIMIT = 120_000
"""Messages of a standard queue that are received and not deleted."""
PARTITION_WRITE_UNITS = 1_000
"""Of DynamoDB, a second and partition key."""
SHARDS = 4
"""Of each state in the index by outcome."""
LIST_PER_SECOND = 2
"""ListTrainingJobs, per account and region; not adjustable."""
LIST_PAGE = 100

# The original sample (AWS's amazon-sagemaker-modeldb-sync)
STATE_CHANGES = 6
"""Events of a job; the sample's rule passes them all."""
TRANSITIONS = 5
TRIGGER_GB_SECONDS = 0.125 * 0.2
SMALL_LAMBDAS = 2
SYNC_GB_SECONDS = (2 * 1.0, 2 * 5.0)
"""2 GB, for 1 to 5 s."""

JOBS_A_DAY = 5_000
"""1x."""
PEAK = 10
"""The busiest minutes, times the average."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that bounds the rate of jobs."""

    what: str
    jobs_per_second: float
    remedy: str


LIMITS = (
    Limit(
        "ModelDB V1, one server",
        24,
        "nothing: one writing connection per server; more servers, each with its own queue",
    ),
    Limit(
        "ModelDB V2 2.0.8.1 on two shared cores, 4 calls at once",
        26,
        "cores for its PostgreSQL and backend; `target.max_concurrency` up to 8 over the fleet",
    ),
    Limit(
        "MLflow 3.17 on SQLite, 4 calls at once",
        3,
        "PostgreSQL and cores for the server",
    ),
    Limit(
        "one daemon on one core",
        1 / CPU_SECONDS,
        "replicas with `checkpoint.kind: dynamodb`",
    ),
    Limit(
        "one project in DynamoDB's index by project",
        PARTITION_WRITE_UNITS / (3 * math.ceil(INDEX_ENTRY_KB)),
        "more projects: an index entry is written, deleted and written again under one key",
    ),
    Limit(
        "all jobs in DynamoDB's index by outcome",
        SHARDS * PARTITION_WRITE_UNITS / (2 * math.ceil(INDEX_ENTRY_KB)),
        "more shards (a constant of the program)",
    ),
)


def index_write_units() -> float:
    """Of a job. The intent adds an entry to each index; the outcome changes the hash or the range
    key, so that the old entry is deleted and a new one is put.
    """
    return INDEXES * 3 * math.ceil(INDEX_ENTRY_KB)


def write_units() -> float:
    """Of a job with its two writes: 1 unit per KB, rounded up."""
    return sum(math.ceil(size) for size in ITEM_KB) + index_write_units()


def sqs_requests(batch: float) -> float:
    """Of a job: EventBridge sends each event alone; receives and deletes share requests."""
    return 1 + 2 / batch


def fargate_month(tasks: int) -> float:
    return tasks * HOURS_A_MONTH * (VCPU * FARGATE_VCPU_HOUR + MEMORY_GB * FARGATE_GB_HOUR)


def tasks_for(jobs_per_second: float) -> int:
    """Tasks that a rate needs, at 70 % of their CPU."""
    return max(1, math.ceil(jobs_per_second * CPU_SECONDS / (0.7 * VCPU)))


def sample_cost(sync_gb_seconds: float) -> float:
    """Dollars of a job in the original sample."""
    lambdas = (
        STATE_CHANGES * (LAMBDA_REQUEST + TRIGGER_GB_SECONDS * LAMBDA_GB_SECOND)
        + SMALL_LAMBDAS * (LAMBDA_REQUEST + TRIGGER_GB_SECONDS * LAMBDA_GB_SECOND)
        + LAMBDA_REQUEST
        + sync_gb_seconds * LAMBDA_GB_SECOND
    )
    return TRANSITIONS * STATE_TRANSITION + lambdas


def per_million() -> str:
    """The table of variable costs."""
    few, many = sqs_requests(1) * SQS_REQUEST, sqs_requests(10) * SQS_REQUEST
    writes = write_units() * DYNAMODB_WRITE_UNIT
    reads = READ_UNITS * DYNAMODB_READ_UNIT
    kept_gb = (ITEM_KB[-1] + INDEXES * INDEX_ENTRY_KB) * MILLION / 1024**2
    logs = LOG_KB / 1024**2 * LOG_GB
    least, most = (sample_cost(each) for each in SYNC_GB_SECONDS)
    rows = [
        (
            "SQS",
            f"{sqs_requests(10):.1f} requests a job in a backlog, {sqs_requests(1):.0f} one by one",
            dollars(many, few),
        ),
        (
            "DynamoDB, only with `kind: dynamodb`",
            f"{write_units():.0f} write units a job, {index_write_units():.0f} of them for indexes",
            f"{(writes + reads) * MILLION:.2f}",
        ),
        (
            "its storage, a month",
            f"{kept_gb:.1f} GB",
            f"{kept_gb * DYNAMODB_GB_MONTH:.2f}",
        ),
        ("CloudWatch Logs", f"{LOG_KB} KB a job", f"{logs * MILLION:.2f}"),
        (
            "**the daemon, without its task**",
            "SQLite; DynamoDB",
            f"{dollars(many + logs, few + logs)}; "
            + dollars(many + logs + writes + reads, few + logs + writes + reads),
        ),
        (
            "**the original sample**",
            f"{TRANSITIONS} state transitions, {STATE_CHANGES + SMALL_LAMBDAS + 1} Lambda calls",
            f"{least * MILLION:.0f} to {most * MILLION:.0f}",
        ),
    ]
    return table(("part", "amount", "dollars per million jobs"), rows)


def dollars(least: float, most: float) -> str:
    return f"{least * MILLION:.2f} to {most * MILLION:.2f}"


def by_scale() -> str:
    """The table of loads, replicas and monthly costs."""
    rows = []
    for times in (1, 10, 100, 1000):
        jobs_a_day = JOBS_A_DAY * times
        average = jobs_a_day / SECONDS_A_DAY
        tasks = tasks_for(average * PEAK)
        jobs_a_month = jobs_a_day * DAYS_A_MONTH
        shared = tasks > 1
        job = sqs_requests(1) * SQS_REQUEST + LOG_KB / 1024**2 * LOG_GB
        if shared:
            job += write_units() * DYNAMODB_WRITE_UNIT + READ_UNITS * DYNAMODB_READ_UNIT
        least, most = (sample_cost(each) * jobs_a_month for each in SYNC_GB_SECONDS)
        lists = jobs_a_day / LIST_PAGE / LIST_PER_SECOND / 60
        rows.append(
            (
                f"{times:,}x",
                f"{jobs_a_day:,}",
                f"{average:.2f}",
                f"{average * PEAK:.1f}",
                f"{tasks} ({'DynamoDB' if shared else 'SQLite'})",
                f"{lists:.1f}",
                f"{fargate_month(tasks) + job * jobs_a_month:,.0f}",
                f"{least:,.0f} to {most:,.0f}",
            )
        )
    heads = (
        "load",
        "jobs a day",
        "a second",
        "peak",
        "tasks of 0.25 vCPU",
        "minutes to list a day",
        "dollars a month",
        "the sample's",
    )
    return table(heads, rows)


def limits() -> str:
    """The table of what limits first, lowest first."""
    peaks = {times: JOBS_A_DAY * times / SECONDS_A_DAY * PEAK for times in (1, 10, 100, 1000)}
    rows = []
    for limit in sorted(LIMITS, key=lambda each: each.jobs_per_second):
        beyond = [f"{times:,}x" for times, peak in peaks.items() if peak > limit.jobs_per_second]
        rows.append(
            (
                limit.what,
                f"{limit.jobs_per_second:,.0f}",
                beyond[0] if beyond else "beyond 1,000x",
                limit.remedy,
            )
        )
    return table(("part", "jobs a second", "a peak exceeds it at", "what then"), rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_tables(page: str) -> str:
    """The document with its tables as they are computed."""
    for name, made in (
        ("per-million", per_million()),
        ("by-scale", by_scale()),
        ("limits", limits()),
    ):
        start = page.index(f"<!-- {name} -->\n") + len(f"<!-- {name} -->\n")
        page = f"{page[:start]}{made}\n{page[page.index('<!-- end -->', start) :]}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the document")
    if parser.parse_args().write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(per_million(), by_scale(), limits(), sep="\n\n")


if __name__ == "__main__":
    main()
