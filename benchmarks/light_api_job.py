"""Writes jobs to ModelDB V1 with its original client (PyPI modeldb), one by one, in the steps of
AWS's sample. Prints one JSON object.

Reads from stdin ``{"port": .., "jobs": [{"description": .., "tags": ..}, ..], "untimed": ..}``: so
many of the first jobs are not timed. Runs in an environment of its own that has the client, see
`modeldb_v1.py`, and therefore imports nothing of this tree.

The sample never closes its connections. Here each is closed when its job is done, or the server
would have none left after 100 jobs.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

# The client is not among the libraries of this tree.
from modeldb.basic.ModelDbSyncerBase import Syncer  # type: ignore[import-not-found] # the client is in no index
from modeldb.basic.Structs import Dataset, Model, ModelConfig, ModelMetrics  # type: ignore[import-not-found] # the client is in no index


def write(port: int, description: dict[str, Any], tags: dict[str, str]) -> None:
    """One job: connect, project, experiment and run at once, then model and metrics."""
    syncer = Syncer.create_syncer(
        tags["MODEL_DB_PROJECT_NAME"],
        tags["MODEL_DB_PROJECT_USER"],
        tags["MODEL_DB_PROJECT_DESC"],
        host="127.0.0.1",
        port=port,
    )
    datasets = {
        channel["ChannelName"]: dataset(channel) for channel in description["InputDataConfig"]
    }
    model_type = tags["MODEL_DB_MODEL_TYPE"]
    model = Model(
        model_type, tags["MODEL_DB_MODEL_NAME"], description["ModelArtifacts"]["S3ModelArtifacts"]
    )
    metrics = {
        metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]
    }
    syncer.sync_datasets(datasets)
    syncer.sync_model("train", ModelConfig(model_type, description["HyperParameters"]), model)
    syncer.sync_metrics("test", model, ModelMetrics(metrics))
    syncer.sync()
    syncer.closeThriftClient()


def dataset(channel: dict[str, Any]) -> Any:  # noqa: ANN401 - the client has no types
    words = {word: channel[word] for word in ("CompressionType", "RecordWrapperType")}
    return Dataset(channel["DataSource"]["S3DataSource"]["S3Uri"], words)


def main() -> None:
    asked = json.load(sys.stdin)
    given: dict[str, Any] = {"done": 0, "error": ""}
    begun = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the client prints
            for number, job in enumerate(asked["jobs"]):
                if number == asked["untimed"]:
                    begun = time.perf_counter()
                write(asked["port"], job["description"], job["tags"])
                given["done"] += 1
    except Exception as error:  # noqa: BLE001 - whatever the server or the client makes of it is the result
        given["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(given | {"seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
