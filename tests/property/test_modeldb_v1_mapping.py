"""For any job, ModelDB V1 accepts all its calls, and reading the run back gives the same job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from daemon.demo.modeldb_v1 import writes as calls
from daemon.demo.modeldb_v1.metadata import MODEL_ID, Documents, parse_document
from daemon.demo.modeldb_v1.reads import run_details
from daemon.demo.modeldb_v1.store import Store
from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.codec import decode_call, encode_call
from daemon.targets.modeldb_v1.connection import LONGEST_FRAME
from daemon.targets.modeldb_v1.limits import metadata_key, too_much
from daemon.targets.modeldb_v1.mapping import MappedJob, map_job, mark_in, marker_of
from daemon.targets.modeldb_v1.readback import from_details, missing_metrics
from tests.property.descriptions import runs
from tests.property.texts import texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.training_job.training_run import TrainingRun


class Server:
    """The stand-in's store, written and read through bytes."""

    def __init__(self) -> None:
        self.store = Store()
        self.documents = Documents()

    def call(self, method: str, **arguments: Any) -> Any:
        """Raises the stand-in's `ServerError`."""
        frame = encode_call(method, arguments, 1)
        assert len(frame) <= LONGEST_FRAME
        received: Mapping[str, Any] = decode_call(frame).arguments
        result = calls.STORING[method](self.store, received)
        if method == "storeFitEvent" and received["fe"].metadata is not None:
            self.documents.insert(
                parse_document(received["fe"].metadata) | {MODEL_ID: result.modelId}
            )
        return result

    def write(self, job: MappedJob) -> tuple[int, list[int]]:
        """A job's calls in their order. Returns the run, and the data frames by channel."""
        project_id = self.call("storeProjectEvent", pr=requests.project_event(job)).projectId
        experiment_id = self.call(
            "storeExperimentEvent", er=requests.default_experiment_event(project_id)
        ).experimentId
        run_id = self.call(
            "storeExperimentRunEvent", er=requests.run_event(experiment_id, job)
        ).experimentRunId
        fit = self.call("storeFitEvent", fe=requests.fit_event(run_id, job))
        others = [
            self.call("storeDataFrame", df=requests.data_frame(frame), experimentRunId=run_id)
            for frame in job.data_frames[1:]
        ]
        frames = [fit.dfId, *others]
        for metric in job.metrics:
            event = requests.metric_event(run_id, fit.modelId, frames[metric.channel], metric)
            self.call("storeMetricEvent", me=event)
        return run_id, frames


@given(runs(), st.booleans())
def test_the_server_takes_every_job_and_shows_it_whole(
    run: TrainingRun,
    metadata_store: bool,  # noqa: FBT001 - drawn
) -> None:
    job = map_job(run, metadata_store=metadata_store)
    server = Server()
    run_id, frames = server.write(job)

    details = run_details(server.store, {"experimentRunId": run_id})
    assert mark_in(details.experimentRun.description) == job.marker == marker_of(run.mark)
    stored = from_details(job, details.modelResponses)
    assert stored is not None
    assert missing_metrics(job, stored, frames) == []
    left_out = len(run.metrics) + len(run.non_finite_metrics) - len(job.metrics)
    assert (
        len(
            [
                note
                for note in job.notes
                if note.startswith("metric ") and note.endswith(": left out")
            ]
        )
        == left_out
    )
    assert (details.project.name, details.project.author) == (run.project_name, run.project_user)
    keys = [
        [pair.key for pair in model.trainingDataFrame.metadata or ()]
        for model in details.modelResponses
    ]
    assert all(len(set(each)) == len(each) for each in keys)
    if not metadata_store:
        assert job.metadata is None
        return
    assert job.metadata is not None
    document = json.loads(job.metadata)
    assert parse_document(job.metadata) == document
    assert server.documents.model_ids(
        {"JOB.arn": run.mark.arn, "JOB.creation_time": run.mark.creation_time}
    ) == [stored.model_id]
    assert len(document["CONFIG"]) == len(run.hyperparameters)
    assert len(document["TAGS"]) == len(run.all_tags)


@given(
    st.lists(texts() | st.text(st.sampled_from("%.$2E5\0"), max_size=4), unique=True, max_size=16)
)
@example([".", "%2E", "$", "%24", "_id", "%5Fid"])
def test_keys_of_the_metadata_stay_distinct(keys: list[str]) -> None:
    cleaned = [metadata_key(key) for key in keys]
    assert len(set(cleaned)) == len(keys)
    assert not [
        key
        for key in cleaned
        if key.startswith("$") or "." in key or "\0" in key or key in {"_id", MODEL_ID}
    ]


@given(st.dictionaries(st.integers(), st.integers(0, 1000)), st.integers(-10, 5000))
def test_what_is_too_much_is_as_little_as_can_be(sizes: dict[int, int], budget: int) -> None:
    left_out = too_much(sizes, budget)
    kept = sum(sizes.values()) - sum(sizes[key] for key in left_out)
    assert kept <= max(budget, 0)
    if left_out:
        assert kept + sizes[left_out[-1]] > budget
