"""What `sync --dry-run` shows is what `sync` writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.modeldb_v2_target import MemoryJournal, job, target_of

if TYPE_CHECKING:
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn


async def test_the_document_is_what_a_sync_writes(server: ModelDbV2StandIn) -> None:
    run = job(model_name="m" * 300)
    async with target_of(server.url) as target:
        document = json.loads(json.dumps(target.preview(run).document))
        assert server.requests == {}
        written = await target.sync(run, MemoryJournal())

    [project], [experiment], [stored] = server.projects(), server.experiments(), server.runs()
    assert document["project"].items() <= project.items()
    assert document["experiment"].items() <= experiment.items()
    ours = document["experiment_run"]
    times = {"start_time", "end_time", "date_created"}
    assert {key: value for key, value in ours.items() if value and key not in times} == {
        key: stored[key] for key in ours if key in stored and key not in times
    }
    assert stored["start_time"] == str(ours["start_time"])
    assert document["notes"] == list(written.notes) != []


async def test_the_tables_show_all_of_it(server: ModelDbV2StandIn) -> None:
    run = job()
    async with target_of(server.url) as target:
        preview = target.preview(run)

    assert preview.title == "a run in ModelDB V2"
    shown = {heading: dict(rows) for heading, rows in preview.sections}
    assert shown["project"] == {
        "name": "customer-churn",
        "description": "Who leaves next month",
        "project_user": "amara",
        "sagemaker_project_description": "Who leaves next month",
    }
    assert shown["experiment"] == {"name": "churn-xgb"}
    assert shown["run"]["name"] == "churn-1"
    assert "Model: churn-xgb" in shown["run"]["description"]
    assert shown["metrics"] == {"train/auc": "0.99"}
    body = preview.document["experiment_run"]
    for name in ("hyperparameters", "datasets", "artifacts", "attributes"):
        assert len(shown.get(name, {})) == len(body[name]), name
