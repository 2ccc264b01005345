"""The steps of AWS's sample, in one process: its Lambdas' work, one job after the other, written to
ModelDB V1 with its own client (PyPI modeldb).

A message is an invocation, so it is deleted when it is received: EventBridge hands the event over
once, the trigger starts an execution, and an execution that fails is not begun again. The sample
never closes its connections; here each is closed when its job is done, or the server would have
none left after 100 jobs. Runs until SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any

import boto3
from modeldb.basic.ModelDbSyncerBase import Syncer  # type: ignore[import-not-found] # in an environment of its own
from modeldb.basic.Structs import Dataset, Model, ModelConfig, ModelMetrics  # type: ignore[import-not-found] # as above

WANTED = (
    "MODEL_DB_SYNC",
    "MODEL_DB_PROJECT_NAME",
    "MODEL_DB_PROJECT_USER",
    "MODEL_DB_PROJECT_DESC",
    "MODEL_DB_MODEL_NAME",
    "MODEL_DB_MODEL_TYPE",
)


def trigger(event: dict[str, Any]) -> dict[str, Any] | None:
    """The trigger Lambda: the input of an execution, for a completed job."""
    detail = event["detail"]
    if detail["TrainingJobStatus"] != "Completed":
        return None
    return {"name": detail["TrainingJobName"], "tags": detail["Tags"]}


def validate(tags: dict[str, str]) -> None:
    """ValidateTrainingJobTags: the execution fails without one of them."""
    missing = [key for key in WANTED if key not in tags]
    if missing:
        raise KeyError(*missing)


def sync(port: int, description: dict[str, Any], tags: dict[str, str]) -> None:
    """SyncModelWithModelDB: project, default experiment and run at once, then model and metrics."""
    syncer = Syncer.create_syncer(
        tags["MODEL_DB_PROJECT_NAME"],
        tags["MODEL_DB_PROJECT_USER"],
        tags["MODEL_DB_PROJECT_DESC"],
        host="127.0.0.1",
        port=port,
    )
    channels = {channel["ChannelName"]: channel for channel in description["InputDataConfig"]}
    model_type = tags["MODEL_DB_MODEL_TYPE"]
    location = description["ModelArtifacts"]["S3ModelArtifacts"]
    model = Model(model_type, tags["MODEL_DB_MODEL_NAME"], location)
    metrics = {each["MetricName"]: each["Value"] for each in description["FinalMetricDataList"]}
    syncer.sync_datasets(
        {name: _dataset(channels[name]) for name in ("train", "test") if name in channels}
    )
    syncer.sync_model("train", ModelConfig(model_type, description["HyperParameters"]), model)
    syncer.sync_metrics("test", model, ModelMetrics(metrics))
    syncer.sync()
    syncer.closeThriftClient()


def _dataset(channel: dict[str, Any]) -> Any:  # noqa: ANN401 - the client has no types
    words = {word: channel[word] for word in ("CompressionType", "RecordWrapperType")}
    return Dataset(channel["DataSource"]["S3DataSource"]["S3Uri"], words)


def main() -> None:
    """One message after the other."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    sqs = boto3.client("sqs", endpoint_url=os.environ["SQS_ENDPOINT"])
    sagemaker = boto3.client("sagemaker", endpoint_url=os.environ["SAGEMAKER_ENDPOINT"])
    queue = os.environ["QUEUE_URL"]
    while not stopping:
        answer = sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=int(os.environ["WAIT_SECONDS"]),
        )
        for message in answer.get("Messages") or []:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            try:
                with contextlib.redirect_stdout(sys.stderr):  # the client prints
                    execute(sagemaker, message["Body"])
            except Exception as error:  # noqa: BLE001 - a failed execution; the next one knows nothing of it
                print(json.dumps({"failed": repr(error)}), file=sys.stderr)


def execute(sagemaker: Any, body: str) -> None:  # noqa: ANN401 - boto3 has no types
    """One execution of the state machine."""
    execution = trigger(json.loads(body))
    if execution is None:
        return
    validate(execution["tags"])
    description = sagemaker.describe_training_job(TrainingJobName=execution["name"])
    sync(int(os.environ["MODELDB_V1_PORT"]), description, execution["tags"])


if __name__ == "__main__":
    main()
