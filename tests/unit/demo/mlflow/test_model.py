"""The model of MLflow's server: what it takes, refuses and silently loses.

What the real servers answered is replayed in test_recorded.py; here is what each rule means.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.mlflow_calls import ModelCalls

VERSIONS = ["3.17.2", "2.22.5"]
MARK = {
    "key": "sagemaker_training_job_arn",
    "value": "arn:aws:sagemaker:eu-west-1:1:training-job/a",
}
RUN_TIME = 1_700_000_000_000


@pytest.fixture(params=VERSIONS)
def calls(request: pytest.FixtureRequest) -> ModelCalls:
    return ModelCalls(version=request.param)


def tags_of(stored: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in stored["tags"].items() if key != "mlflow.runName"}


class TestParseThatStops:
    """Facts 3.1, row by row: 200 each, and something lost."""

    @pytest.mark.parametrize("bad", ["NaN", '"abc"', "1e400", "{}", "[]"])
    def test_a_metric_that_is_no_number_loses_all_that_follows(
        self, calls: ModelCalls, bad: str
    ) -> None:
        run_id = calls.run()
        body = (
            f'{{"run_id": "{run_id}", "metrics": ['
            '{"key": "a", "value": 1, "timestamp": 5, "step": 0},'
            f'{{"key": "b", "value": {bad}, "timestamp": 5, "step": 0}},'
            '{"key": "c", "value": 3, "timestamp": 5, "step": 0}],'
            '"params": [{"key": "p", "value": "v"}], "tags": [{"key": "t", "value": "v"}]}'
        )
        assert calls.post("runs/log-batch", body) == (200, {})
        stored = calls.stored(run_id)
        assert [(m["key"], m["value"], m["timestamp"]) for m in stored["metrics"].values()] == [
            ("a", 1.0, 5),
            ("b", 0.0, 0),
        ]
        assert (stored["params"], tags_of(stored)) == ({}, {})
        assert len(calls.model.stopped_parses) == 1

    def test_a_number_as_a_param_becomes_empty_and_loses_all_that_follows(
        self, calls: ModelCalls
    ) -> None:
        run_id = calls.run()
        params = [{"key": "a", "value": "1"}, {"key": "b", "value": 5}, {"key": "c", "value": "3"}]
        metrics = [{"key": "m", "value": 1, "timestamp": 5, "step": 0}]
        calls.done("runs/log-batch", {"run_id": run_id, "params": params, "metrics": metrics})
        stored = calls.stored(run_id)
        assert (stored["params"], stored["metrics"]) == ({"a": "1", "b": ""}, {})

    def test_null_as_a_param_becomes_empty_and_nothing_is_lost(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        params = [
            {"key": "a", "value": "1"},
            {"key": "b", "value": None},
            {"key": "c", "value": ""},
        ]
        calls.done("runs/log-batch", {"run_id": run_id, "params": params})
        assert calls.stored(run_id)["params"] == {"a": "1", "b": "", "c": ""}
        assert calls.model.stopped_parses == []

    def test_a_fraction_as_start_time_loses_name_and_tags(self, calls: ModelCalls) -> None:
        run_id = calls.run(start_time=RUN_TIME + 0.5, run_name="job", tags=[MARK])
        stored = calls.stored(run_id)
        assert (stored["start_time"], tags_of(stored)) == (0, {})
        assert stored["run_name"] not in {"", "job"}

    def test_a_whole_number_with_a_point_is_taken_as_start_time(self, calls: ModelCalls) -> None:
        run_id = calls.run(start_time=float(RUN_TIME), run_name="job", tags=[MARK])
        assert calls.stored(run_id)["start_time"] == RUN_TIME
        assert calls.model.stopped_parses == []

    def test_a_number_as_a_tag_loses_the_mark_after_it_and_the_name(
        self, calls: ModelCalls
    ) -> None:
        tags = [{"key": "n", "value": 5}, MARK]
        run_id = calls.run(tags=tags, run_name="job", start_time=RUN_TIME)
        stored = calls.stored(run_id)
        assert (tags_of(stored), stored["start_time"]) == ({"n": ""}, 0)
        assert stored["run_name"] != "job"

    def test_a_lone_surrogate_in_a_tag_loses_all_that_follows(self, calls: ModelCalls) -> None:
        body = r'{"experiment_id": "0", "tags": [{"key": "t", "value": "\ud800"}], "run_name": "j"}'
        status, answer = calls.post("runs/create", body)
        assert status == 200
        stored = calls.stored(answer["run"]["info"]["run_id"])
        assert tags_of(stored) == {"t": ""}
        assert stored["run_name"] != "j"

    def test_a_fraction_as_end_time_leaves_the_run_running(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        calls.done("runs/update", {"run_id": run_id, "end_time": 1.5, "status": "FINISHED"})
        assert calls.stored(run_id)["status"] == "RUNNING"

    def test_an_unknown_status_is_ignored_and_the_rest_is_kept(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        calls.done("runs/update", {"run_id": run_id, "status": "COMPLETED", "end_time": 5})
        stored = calls.stored(run_id)
        assert (stored["status"], stored["end_time"]) == ("RUNNING", 5)
        assert calls.model.stopped_parses == []

    def test_a_number_as_digest_loses_source_and_the_next_data_set(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        first = {"name": "train", "digest": 5, "source_type": "s3", "source": "{}"}
        second = {"name": "test", "digest": "d", "source_type": "s3", "source": "{}"}
        calls.done(
            "runs/log-inputs",
            {"run_id": run_id, "datasets": [{"dataset": first}, {"dataset": second}]},
        )
        [found] = calls.stored(run_id)["inputs"]["dataset_inputs"]
        assert found["dataset"] == {"name": "train", "digest": "", "source_type": "", "source": ""}

    def test_a_number_as_a_version_tag_loses_the_mark_and_the_run(self, calls: ModelCalls) -> None:
        calls.done("registered-models/create", {"name": "m"})
        version = calls.done(
            "model-versions/create",
            {
                "name": "m",
                "source": "s3://b/k",
                "tags": [{"key": "a", "value": 5}, MARK],
                "run_id": "r",
            },
        )["model_version"]
        assert (version["tags"], version["run_id"]) == ([{"key": "a", "value": ""}], "")

    @pytest.mark.parametrize("body", ["", "[]", "this is no JSON"])
    def test_no_object_at_all_is_an_error_of_the_database(
        self, calls: ModelCalls, body: str
    ) -> None:
        status, answer = calls.post("runs/create", body)
        assert (status, answer["error_code"]) == (400, "BAD_REQUEST")
        assert calls.model.runs() == []


class TestCutOrChangedWithoutAWord:
    """Facts 3.2, row by row."""

    def test_a_param_value_is_cut_to_6000(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        params = [{"key": "p", "value": "x" * 6001}]
        calls.done("runs/log-batch", {"run_id": run_id, "params": params})
        assert calls.stored(run_id)["params"] == {"p": "x" * 6000}

    def test_a_tag_value_is_cut_to_8000_by_log_batch_and_set_tag(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        calls.done(
            "runs/log-batch", {"run_id": run_id, "tags": [{"key": "t", "value": "x" * 8001}]}
        )
        calls.done("runs/set-tag", {"run_id": run_id, "key": "u", "value": "x" * 8001})
        assert tags_of(calls.stored(run_id)) == {"t": "x" * 8000, "u": "x" * 8000}

    def test_a_tag_value_over_8000_in_create_is_stored_by_sqlite(self, calls: ModelCalls) -> None:
        run_id = calls.run(tags=[{"key": "t", "value": "x" * 8001}])
        assert tags_of(calls.stored(run_id)) == {"t": "x" * 8001}

    def test_a_tag_value_over_8000_in_create_is_refused_by_postgresql(self) -> None:
        calls = ModelCalls(database="postgresql")
        tags = [{"key": "t", "value": "x" * 8001}]
        status, answer = calls.post("runs/create", {"experiment_id": "0", "tags": tags})
        assert (status, answer["error_code"]) == (400, "BAD_REQUEST")

    def test_nan_as_text_is_a_real_nan(self, calls: ModelCalls) -> None:
        assert self._stored_value(calls, "NaN") == "NaN"

    def test_infinity_as_text_becomes_the_largest_number(self, calls: ModelCalls) -> None:
        assert self._stored_value(calls, "Infinity") == 1.7976931348623157e308
        assert self._stored_value(calls, "-Infinity") == -1.7976931348623157e308

    def _stored_value(self, calls: ModelCalls, value: str) -> object:
        run_id = calls.run()
        metrics = [{"key": "m", "value": value, "timestamp": 5, "step": 0}]
        calls.done("runs/log-batch", {"run_id": run_id, "metrics": metrics})
        return calls.stored(run_id)["metrics"]["m"]["value"]

    def test_another_source_under_the_same_name_and_digest_is_not_seen(
        self, calls: ModelCalls
    ) -> None:
        sources = []
        for source in ("first", "second"):
            run_id = calls.run()
            dataset = {"name": "train", "digest": "d", "source_type": "s3", "source": source}
            calls.done("runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": dataset}]})
            [found] = calls.stored(run_id)["inputs"]["dataset_inputs"]
            sources.append(found["dataset"]["source"])
        assert sources == ["first", "first"]

    def test_a_run_without_a_name_gets_a_random_one(self, calls: ModelCalls) -> None:
        names = [calls.stored(calls.run(run_name=""))["run_name"] for _ in range(2)]
        assert all(name.count("-") == 2 for name in names)
        assert names[0] != names[1]

    def test_of_a_tag_given_twice_in_a_batch_the_last_wins(self, calls: ModelCalls) -> None:
        run_id = calls.run()
        tags = [{"key": "t", "value": "1"}, {"key": "t", "value": "2"}]
        calls.done("runs/log-batch", {"run_id": run_id, "tags": tags})
        assert tags_of(calls.stored(run_id)) == {"t": "2"}


def test_the_same_create_twice_makes_two_runs(calls: ModelCalls) -> None:
    body = {"experiment_id": "0", "run_name": "job", "tags": [MARK]}
    ids = {calls.done("runs/create", body)["run"]["info"]["run_id"] for _ in range(2)}
    found = calls.done(
        "runs/search",
        {"experiment_ids": ["0"], "filter": f"tags.`{MARK['key']}` = '{MARK['value']}'"},
    )
    assert {run["info"]["run_id"] for run in found["runs"]} == ids
    assert len(ids) == 2


def test_a_search_without_experiments_finds_nothing(calls: ModelCalls) -> None:
    calls.run(tags=[MARK])
    assert calls.done("runs/search", {"filter": ""}) == {}


def test_a_name_outlives_its_deletion(calls: ModelCalls) -> None:
    number = calls.experiment("churn")
    run_id = calls.run(number)
    calls.done("experiments/delete", {"experiment_id": number})
    _, found = calls.get("experiments/get-by-name", experiment_name="churn")
    assert found["experiment"]["lifecycle_stage"] == "deleted"
    assert calls.post("experiments/create", {"name": "churn"})[1]["error_code"] == (
        "RESOURCE_ALREADY_EXISTS"
    )
    status, answer = calls.post("runs/create", {"experiment_id": number})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "must be in the 'active' state" in answer["message"]
    assert calls.stored(run_id)["lifecycle_stage"] == "deleted"
    calls.done("experiments/restore", {"experiment_id": number})
    assert calls.stored(run_id)["lifecycle_stage"] == "active"


def test_a_param_cannot_be_changed_and_the_batch_is_undone(calls: ModelCalls) -> None:
    run_id = calls.run()
    calls.done("runs/log-batch", {"run_id": run_id, "params": [{"key": "p", "value": "1"}]})
    body = {
        "run_id": run_id,
        "metrics": [{"key": "m", "value": 1, "timestamp": 5, "step": 0}],
        "params": [{"key": "new", "value": "1"}, {"key": "p", "value": "2"}],
    }
    status, answer = calls.post("runs/log-batch", body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    stored = calls.stored(run_id)
    assert (stored["params"], stored["metrics"]) == ({"p": "1"}, {})


def test_the_latest_metric_has_the_highest_step_then_time_then_value(calls: ModelCalls) -> None:
    run_id = calls.run()
    points = [(1.0, 9, 0), (2.0, 1, 1), (3.0, 2, 1), (2.5, 2, 1), (9.0, 99, 0)]
    metrics = [
        {"key": "m", "value": value, "timestamp": time, "step": step}
        for value, time, step in points
    ]
    calls.done("runs/log-batch", {"run_id": run_id, "metrics": metrics})
    assert calls.stored(run_id)["metrics"]["m"]["value"] == 3.0
    assert len(calls.stored(run_id)["points"]) == 5


def test_of_2x_a_batch_that_repeats_more_than_100_metrics_is_refused() -> None:
    answers = {}
    for version in VERSIONS:
        calls = ModelCalls(version=version)
        for count in (100, 101):
            body = {
                "run_id": calls.run(),
                "metrics": [
                    {"key": f"m{n}", "value": n, "timestamp": 5, "step": 0} for n in range(count)
                ],
            }
            calls.done("runs/log-batch", body)
            answers[version, count] = calls.post("runs/log-batch", body)[0]
    assert answers == {
        ("3.17.2", 100): 200,
        ("3.17.2", 101): 200,
        ("2.22.5", 100): 200,
        ("2.22.5", 101): 400,
    }


def test_reads_lag_behind_writes_where_a_replica_serves_them() -> None:
    calls = ModelCalls(replica_lag_ms=1_000)
    number = calls.experiment("churn")
    assert calls.get("experiments/get-by-name", experiment_name="churn")[0] == 404
    assert calls.post("runs/create", {"experiment_id": number})[0] == 404
    calls.now_ms += 1_000
    run_id = calls.run(number)
    assert calls.get("runs/get", run_id=run_id)[0] == 404
    calls.done("runs/set-tag", {"run_id": run_id, "key": "t", "value": "v"})
    calls.now_ms += 1_000
    assert calls.get("runs/get", run_id=run_id)[0] == 200


def test_health_is_ok_while_the_database_is_down(calls: ModelCalls) -> None:
    calls.model.database_down = True
    assert calls.raw("GET", "/health")[0] == 200
    status, answer = calls.post("experiments/search", {"max_results": 1})
    assert (status, answer["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    calls.model.database_down = False
    assert calls.post("experiments/search", {"max_results": 1})[0] == 200


@pytest.mark.parametrize("host", ["mlflow", "mlflow:5000", "mlflow.example.com"])
def test_3x_refuses_host_names_that_it_does_not_know(host: str) -> None:
    body = json.dumps({"max_results": 1}).encode()
    status, kind, text = ModelCalls().raw("POST", "experiments/search", body, Host=host)
    assert (status, kind) == (403, "text/plain")
    assert text == "Invalid Host header - possible DNS rebinding attack detected"
    allowed = ModelCalls(allowed_hosts=[host])
    assert allowed.raw("POST", "experiments/search", body, Host=host)[0] == 200
    assert allowed.raw("POST", "experiments/search", body, Host=host + ":1")[0] == 403
    old = ModelCalls(version="2.22.5")
    assert old.raw("POST", "experiments/search", body, Host=host)[0] == 200


def test_a_login_is_demanded_and_others_experiments_are_not_writable() -> None:
    calls = ModelCalls(logins={"admin": "a", "ann": "b", "bob": "c"})
    ann, bob, wrong = "Basic YW5uOmI=", "Basic Ym9iOmM=", "Basic YW5uOmM="

    def call(operation: str, body: Any, who: str) -> tuple[int, str]:
        text = json.dumps(body).encode()
        status, kind, _ = calls.raw("POST", operation, text, Authorization=who)
        return status, kind

    html = "text/html; charset=utf-8"
    assert call("experiments/create", {"name": "a"}, "") == (401, html)
    assert call("experiments/create", {"name": "a"}, wrong) == (401, html)
    assert call("experiments/create", {"name": "a"}, "Bearer token") == (401, html)
    assert call("experiments/create", {"name": "a"}, ann)[0] == 200
    assert call("runs/create", {"experiment_id": "1"}, bob) == (403, html)
    assert call("runs/create", {"experiment_id": "1"}, ann)[0] == 200


def test_paths_begin_with_the_static_prefix() -> None:
    calls = ModelCalls(static_prefix="/ml")
    body = json.dumps({"max_results": 1}).encode()
    assert calls.raw("POST", "experiments/search", body)[:2] == (404, "text/html; charset=utf-8")
    assert calls.raw("POST", "/ml/api/2.0/mlflow/experiments/search", body)[0] == 200
    assert calls.raw("GET", "/ml/health")[0] == 200
