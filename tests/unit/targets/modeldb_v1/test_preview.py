"""A preview is exactly what `sync` sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v1.preview import _plain, preview
from daemon.training_job.channels import Channel
from tests.support.modeldb_v1_target import full_job
from tests.support.modeldb_v2_target import MemoryJournal, job

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.codec import Call
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from daemon.training_job.training_run import TrainingRun
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

WRITES = ("store", "update")


def sent_to(server: ModelDbV1StandIn) -> list[tuple[str, Any]]:
    """Every writing call that arrives from now on, with its arguments in plain values."""
    sent: list[tuple[str, Any]] = []

    def look(call: Call) -> bool:
        if call.method.startswith(WRITES):
            arguments = {name: _plain(value) for name, value in call.arguments.items()}
            sent.append((call.method, arguments))
        return False

    server.faults.refuse(None, when=look)
    return sent


def without_ids(value: Any) -> Any:
    """Ids that the server gives, and placeholders for them, as one word."""
    if isinstance(value, dict):
        return {
            key: "…" if _is_id(key, inner) else without_ids(inner) for key, inner in value.items()
        }
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def _is_id(key: str, value: object) -> bool:
    given = (isinstance(value, int) and value > 0) or bool(re.match(r"<.* id.*>", str(value)))
    return key.lower().endswith("id") and given


@pytest.mark.parametrize("metadata_store", [True, False], ids=["with-mongo", "without-mongo"])
@pytest.mark.parametrize(
    "run",
    [
        full_job(),
        job(channels=(), metrics=(), hyperparameters=(), project_description=""),
        job(channels=(Channel("other", "s3://data/other", "s3"),)),
    ],
    ids=["full", "bare", "one channel"],
)
async def test_the_calls_of_a_preview_are_those_that_are_sent(
    server: ModelDbV1StandIn, target: ModelDBV1Target, run: TrainingRun
) -> None:
    calls = target.preview(run).document["calls"]
    assert server.calls == []
    sent = sent_to(server)
    await target.sync(run, MemoryJournal())
    # the description is set only where the project was there without one
    said = [
        (call["method"], without_ids(call["arguments"]))
        for call in calls
        if call["method"] != "updateProject"
    ]
    assert said == [(method, without_ids(arguments)) for method, arguments in sent]


async def test_a_description_is_previewed_as_it_is_sent_to_a_project_without_one(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(job("first", project_description=""), MemoryJournal())
    (said,) = [
        call
        for call in target.preview(job("second")).document["calls"]
        if call["method"] == "updateProject"
    ]
    sent = sent_to(server)
    await target.sync(job("second"), MemoryJournal())
    assert said["when"] == "if the project exists and has no description"
    assert ("updateProject", without_ids(said["arguments"])) in [
        (method, without_ids(arguments)) for method, arguments in sent
    ]


def test_the_tables_show_all_that_people_want_to_know() -> None:
    shown = preview(map_job(full_job(), metadata_store=True))
    sections = dict(shown.sections)
    assert shown.title == "a run with one model in ModelDB V1"
    assert sections["project"] == [
        ("name", "customer-churn"),
        ("author", "amara"),
        ("description", "Who leaves next month"),
    ]
    assert sections["hyperparameters"] == [("eta", "0.2"), ("optimizer", '"adam"')]
    assert ("validation:auc", "0.95 on validation") in sections["metrics"]
    assert ("CONFIG.optimizer", "adam") in sections["metadata document"]
    assert sections["other data"][0] == ("validation", "s3://data/churn-1/validation")
    assert "notes" not in sections


def test_a_job_without_metrics_says_in_its_preview_that_web_pages_do_not_list_it() -> None:
    shown = preview(map_job(job(metrics=()), metadata_store=False))
    assert ("", "no metric is stored: ModelDB's web pages list no model without one") in dict(
        shown.sections
    )["notes"]
    assert "metadata document" not in dict(shown.sections)
