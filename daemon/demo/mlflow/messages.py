"""The messages of the calls, as MLflow's protobuf files define them; members in their order there
matter to nobody, since JSON has its own.
"""

from __future__ import annotations

from daemon.demo.mlflow.parsing import Field, Fields

STATUSES = {"RUNNING": 1, "SCHEDULED": 2, "FINISHED": 3, "FAILED": 4, "KILLED": 5}
VIEWS = {"ACTIVE_ONLY": 1, "DELETED_ONLY": 2, "ALL": 3}

_STRING = Field("string")
_STRINGS = Field("string", repeated=True)
_INT64 = Field("int64")


def _strings(*names: str) -> dict[str, Field]:
    return dict.fromkeys(names, _STRING)


_TAG = Fields(_strings("key", "value"))
_TAGS = Field(_TAG, repeated=True)
_METRIC = Fields(
    {
        **_strings("key", "dataset_name", "dataset_digest", "model_id", "run_id"),
        "value": Field("double"),
        "timestamp": _INT64,
        "step": _INT64,
    }
)
_DATASET = Fields(_strings("name", "digest", "source_type", "source", "schema", "profile"))
_DATASET_INPUT = Fields({"tags": _TAGS, "dataset": Field(_DATASET)})
_MODEL_INPUT = Fields(_strings("model_id"))

EXPERIMENT_CREATE = Fields({**_strings("name", "artifact_location"), "tags": _TAGS})
EXPERIMENT_NAME = Fields(_strings("experiment_name"))
EXPERIMENT_ID = Fields(_strings("experiment_id"))
EXPERIMENT_TAG = Fields(_strings("experiment_id", "key", "value"))
EXPERIMENT_SEARCH = Fields(
    {
        "max_results": _INT64,
        **_strings("page_token", "filter"),
        "order_by": _STRINGS,
        "view_type": Field(VIEWS),
    }
)
RUN_CREATE = Fields(
    {**_strings("experiment_id", "user_id", "run_name"), "start_time": _INT64, "tags": _TAGS}
)
RUN_UPDATE = Fields(
    {**_strings("run_id", "run_uuid", "run_name"), "status": Field(STATUSES), "end_time": _INT64}
)
RUN_BATCH = Fields(
    {
        "run_id": _STRING,
        "metrics": Field(_METRIC, repeated=True),
        "params": Field(_TAG, repeated=True),
        "tags": _TAGS,
    }
)
RUN_INPUTS = Fields(
    {
        "run_id": _STRING,
        "datasets": Field(_DATASET_INPUT, repeated=True),
        "models": Field(_MODEL_INPUT, repeated=True),
    }
)
RUN_TAG = Fields(_strings("run_id", "run_uuid", "key", "value"))
RUN_TAG_DELETE = Fields(_strings("run_id", "key"))
RUN_ID = Fields(_strings("run_id"))
RUN_GET = Fields(_strings("run_id", "run_uuid"))
RUN_SEARCH = Fields(
    {
        "experiment_ids": _STRINGS,
        **_strings("filter", "page_token"),
        "run_view_type": Field(VIEWS),
        "max_results": Field("int32"),
        "order_by": _STRINGS,
    }
)
METRIC_HISTORY = Fields(
    {**_strings("run_id", "run_uuid", "metric_key", "page_token"), "max_results": Field("int32")}
)
MODEL_CREATE = Fields({**_strings("name", "description", "deployment_job_id"), "tags": _TAGS})
MODEL_NAME = Fields(_strings("name"))
VERSION_CREATE = Fields(
    {**_strings("name", "source", "run_id", "run_link", "description", "model_id"), "tags": _TAGS}
)
VERSION_SEARCH = Fields(
    {**_strings("filter", "page_token"), "max_results": _INT64, "order_by": _STRINGS}
)
VERSION = Fields(_strings("name", "version"))
VERSION_UPDATE = Fields(_strings("name", "version", "description"))
