"""Job names, marks and checkpoint rows are read as they were written."""

from __future__ import annotations

import json
import random
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.checkpoint import rules
from daemon.checkpoint.ports import HistoryFilter, JobRecord, JobState
from daemon.checkpoint.sqlite import job_rows
from daemon.checkpoint.sqlite.schema import migrate
from daemon.intake.backoff import Backoff
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.mapping import mark_in, marker_of
from daemon.targets.modeldb_v2.entities import Run
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE
from daemon.targets.modeldb_v2.marked_runs import carries
from daemon.targets.place import TargetPlace
from daemon.training_job.field_readers import moment
from daemon.training_job.identity import JOB_NAME, Home, JobArn, JobMark, iso_milliseconds
from tests.property.descriptions import arns, job_names
from tests.property.texts import sendable_texts, texts, times
from tests.support.checkpoint_calls import TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator

ascii_words = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
epoch_seconds = st.floats(0, 4e9)
# JSON makes one character of the two halves of a pair; no answer of a target, which is read from
# JSON or UTF-8, holds them apart.
ids = st.dictionaries(
    ascii_words, texts().filter(lambda text: json.loads(json.dumps(text)) == text), max_size=6
)
records = st.builds(
    JobRecord,
    job_arn=arns().map(str.lower),
    creation_time=times().map(lambda found: iso_milliseconds(found.replace(tzinfo=UTC)))
    | st.just(""),
    job_name=job_names(),
    state=st.sampled_from(JobState),
    reason=st.sampled_from([*map(str, Reason), ""]),
    detail=texts().map(rules.storable),
    attempts=st.integers(0, 2**63 - 1),
    unanswered_writes=st.integers(0, 2**63 - 1),
    target=st.sampled_from(["modeldb-v1", "modeldb-v2", ""]),
    place=st.sampled_from(["http://modeldb:8080/v1", "modeldb:6543", ""]),
    target_ids=ids,
    message_id=ascii_words,
    first_seen_at=epoch_seconds,
    updated_at=epoch_seconds,
    steps=ids,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.row_factory = sqlite3.Row
    migrate(found, Path(":memory:"), 0.0)
    yield found
    found.close()


@given(arns(), st.booleans())
def test_an_arn_reads_as_it_was_written(text: str, shouting: bool) -> None:  # noqa: FBT001 - drawn
    arn = JobArn.parse(text)
    assert arn.text == text
    resource = f"training-job/{arn.name.lower()}"
    assert arn.key == f"arn:{arn.partition}:sagemaker:{arn.region}:{arn.account}:{resource}"
    assert JobArn.parse(arn.key) == replace(arn, name=arn.name.lower(), text=arn.key)
    assert JobArn.parse(text.upper() if shouting else text.lower()).key == arn.key
    assert JobArn.of(Home(arn.account, arn.region, arn.partition), arn.name).key == arn.key


@given(texts() | arns().flatmap(lambda text: st.builds(lambda odd: text + odd, texts())))
def test_any_text_is_an_arn_or_none(text: str) -> None:
    try:
        arn = JobArn.parse(text)
    except ValueError:
        return
    assert arn.text == text
    assert text.isascii()
    assert JOB_NAME.fullmatch(arn.name)


@given(times())
def test_a_time_reads_as_it_was_written_to_the_millisecond(time: datetime) -> None:
    found = moment({"time": time}, "time")
    if found is None:
        return
    text = iso_milliseconds(found)
    assert len(text) == len("2025-11-20T08:40:00.050Z")
    assert abs(datetime.fromisoformat(text) - found) < timedelta(milliseconds=1)
    assert iso_milliseconds(datetime.fromisoformat(text)) == text


@given(arns(), times(), arns(), times(), texts())
def test_a_mark_is_found_in_what_carries_it_and_in_nothing_else(
    text: str, time: datetime, other_text: str, other_time: datetime, behind: str
) -> None:
    mark = JobMark.of(JobArn.parse(text), time.replace(tzinfo=UTC))
    other = JobMark.of(JobArn.parse(other_text), other_time.replace(tzinfo=UTC))

    assert mark_in(marker_of(mark)) == marker_of(mark)
    assert mark_in(f"{marker_of(mark)} {behind}") == marker_of(mark)
    assert (mark_in(marker_of(mark)) == marker_of(other)) == (mark == other)

    run = Run.parse(
        {
            "id": "1",
            "attributes": [
                {"key": ARN_ATTRIBUTE, "value": mark.arn},
                {"key": CREATION_TIME_ATTRIBUTE, "value": mark.creation_time},
                {"key": ARN_ATTRIBUTE, "value": other.arn},
            ],
        }
    )
    assert carries(run, mark)
    assert carries(run, other) == (mark == other)


@given(texts())
def test_any_description_of_a_run_has_a_mark_or_none(description: str) -> None:
    found = mark_in(description)
    assert found is None or mark_in(found) == found


@given(record=records)
def test_a_job_reads_from_the_checkpoint_as_it_was_written(
    connection: sqlite3.Connection, record: JobRecord
) -> None:
    job_rows.put(connection, record)
    assert (
        job_rows.find(
            connection,
            TargetPlace(record.target, record.place),
            record.job_arn,
            record.creation_time,
        )
        == record
    )
    part = record.job_arn.rpartition("/")[2][:5].swapcase()
    assert record in job_rows.history(connection, HistoryFilter(job=part, limit=10**9))


@given(name=texts(), detail=texts(), text=sendable_texts())
def test_any_name_is_storable_and_ordinary_text_stays_as_it_is(
    name: str, detail: str, text: str, connection: sqlite3.Connection
) -> None:
    assert rules.storable(text) == text
    arn = f"arn:{rules.storable(name)}"
    row = rules.job_row(
        None, None, target=TARGET, job_arn=arn, creation_time="", job_name=name, now=1.0
    )
    row = rules.record_deferred(
        row,
        reason=Reason.TARGET_FAULT,
        detail=detail,
        unanswered_writes=None,
        message_id="m-1",
        now=1.0,
    )
    job_rows.put(connection, row)
    assert job_rows.find(connection, TARGET, arn, "") == row


@given(message_id=ascii_words, body=texts(), detail=texts(), reason=st.sampled_from(Reason))
def test_a_kept_body_reads_from_the_checkpoint_as_it_was_written(
    connection: sqlite3.Connection, message_id: str, body: str, detail: str, reason: Reason
) -> None:
    rejected = rules.reject_message(
        None, message_id, job_arn="", reason=reason, detail=detail, now=2.0
    )
    message = rules.keep_body(rejected, message_id, body, now=3.0)
    job_rows.put_message(connection, message)
    assert job_rows.find_message(connection, message_id) == message
    assert message in job_rows.messages(connection, -1)
    assert (message.body, message.detail) == (rules.storable(body), rules.storable(detail))
    assert (message.reason, message.rejected_at) == (reason, 2.0)


@given(st.floats(1e-3, 1e5), st.floats(1e-3, 1e5), st.integers(-5, 10**6), st.integers())
def test_a_pause_is_within_its_bounds(
    initial: float, longest: float, attempt: int, seed: int
) -> None:
    backoff = Backoff(initial, longest, random.Random(seed))
    pauses = [backoff.delay(attempt) for _ in range(5)]
    highest = min(longest, initial * 2.0 ** min(max(attempt - 1, 0), 60))
    assert all(highest / 2 <= pause <= highest for pause in pauses)
    assert Backoff(initial, longest, random.Random(seed)).delay(attempt) == pauses[0]
