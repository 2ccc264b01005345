"""Odd answers at every edge: each call returns a sane value or raises one of our typed faults.

Every test asks one call for every answer of `tests.support.odd_answers` and for every twist of a
good answer, and lists what leaked.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from thriftpy2.thrift import TType

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.ports import Failed, Message, QueueState
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import SageMakerTrainingJobs, resolve_home
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow import entities as mlflow_entities
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.errors import ApiError as MlflowApiError
from daemon.targets.mlflow.target import fault_of as fault_of_mlflow
from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.answers import missing_member
from daemon.targets.modeldb_v1.codec import (
    INTERFACE,
    ApplicationException,
    decode_reply,
    encode_application_exception,
    encode_exception,
    encode_reply,
)
from daemon.targets.modeldb_v1.connection import FIRST_SEQUENCE_ID, Connection
from daemon.targets.modeldb_v1.errors import CallFailed
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v1.target import fault_of as fault_of_v1
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.entities import Experiment, Project, Run
from daemon.targets.modeldb_v2.errors import ApiError
from daemon.targets.modeldb_v2.target import fault_of as fault_of_v2
from daemon.text import is_plain
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.identity import Home
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags
from tests.support.modeldb_v1_connections import framed, read_call
from tests.support.modeldb_v2_target import job
from tests.support.odd_answers import HTTP_ODDITIES, OddServer, http, twisted
from tests.support.scripted_addresses import listening

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping

    from daemon.aws.clients import AwsClients

pytestmark = pytest.mark.usefixtures("no_backoff")

NAME = "job-1"
ARN = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{NAME}"
QUEUE_ARN = "arn:aws:sqs:eu-west-1:123456789012:jobs"
DEAD_LETTERS_ARN = f"{QUEUE_ARN}-dlq"


async def leaks(
    call: Callable[[], Awaitable[object]],
    answers: Iterable[tuple[str, bytes]],
    give: Callable[[bytes], None],
    sane: Callable[[Any], bool],
) -> list[str]:
    """What came out of a call that should not.

    Args:
        call: asked for each answer.
        answers: by name.
        give: makes an answer the next.
        sane: whether a returned value is one.
    """
    found, cells = [], 0
    for name, answer in answers:
        give(answer)
        cells += 1
        try:
            value = await call()
        except (EdgeFault, JobFault, JobRefused) as fault:
            if not is_plain(fault.detail):
                found.append(f"{name}: {fault.detail!a}")
        except Exception as error:  # noqa: BLE001 - what the test looks for
            found.append(f"{name}: {error!r:.200}")
        else:
            if not sane(value):
                found.append(f"{name}: returned {value!r:.200}")
    print(cells, "cells")
    return found


@pytest.fixture
async def server() -> AsyncIterator[OddServer]:
    async with OddServer() as made:
        yield made


@pytest.fixture
async def clients(server: OddServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsClients]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    async with open_clients(
        queue_url=f"{server.url}/123456789012/jobs",
        region="eu-west-1",
        endpoints=Endpoints(server.url, server.url, server.url),
        wait_seconds=0,
    ) as made:
        yield made


# --- SQS ------------------------------------------------------------------------------------------

_RECEIVED = {
    "Messages": [
        {
            "MessageId": "m-1",
            "ReceiptHandle": "h-1",
            "Body": "{}",
            "Attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1763628000050"},
            "MessageAttributes": {"reason": {"StringValue": "job_gone", "DataType": "String"}},
        },
        {"MessageId": "m-2", "ReceiptHandle": "h-2", "Body": "{}"},
    ]
}
_BATCH = {
    "Successful": [{"Id": "0"}],
    "Failed": [{"Id": "1", "Code": "InternalError", "Message": "no", "SenderFault": False}],
}
_COUNTS = {
    "ApproximateNumberOfMessages": "1",
    "ApproximateNumberOfMessagesNotVisible": "2",
    "ApproximateNumberOfMessagesDelayed": "3",
}
_ATTRIBUTES = {
    "Attributes": {
        "QueueArn": QUEUE_ARN,
        "VisibilityTimeout": "30",
        "RedrivePolicy": json.dumps(
            {"deadLetterTargetArn": DEAD_LETTERS_ARN, "maxReceiveCount": "3"}
        ),
        **_COUNTS,
    }
}
_ODD_POLICIES = [
    "null",
    "[]",
    "5",
    "{",
    '{"a": 1}',
    '{"maxReceiveCount": "soon"}',
    '{"maxReceiveCount": [1]}',
    '{"maxReceiveCount": 1e999}',
    '{"maxReceiveCount": 3, "deadLetterTargetArn": 5}',
    '{"maxReceiveCount": 3, "deadLetterTargetArn": ["a"]}',
    '{"maxReceiveCount": 3, "deadLetterTargetArn": "a:b"}',
    "[" * 100_000,
]
_HANDLES = ["h-1", "h-2"]

SQS_CALLS: Mapping[str, tuple[Any, Callable[[SqsQueue], Awaitable[object]]]] = {
    "receive": (
        _RECEIVED,
        lambda queue: queue.receive(limit=10, wait_seconds=0, visibility_seconds=30),
    ),
    "delete": (_BATCH, lambda queue: queue.delete(_HANDLES)),
    "hide": (_BATCH, lambda queue: queue.hide([(handle, 30) for handle in _HANDLES])),
    "send_dead_letter": (
        {"MessageId": "m-3", "MD5OfMessageBody": "99914b932bd37a50b983c5e7c90ae93b"},
        lambda queue: queue.send_dead_letter("http://q/1/dlq", "{}", {"reason": "job_gone"}),
    ),
    "state": (_ATTRIBUTES, lambda queue: queue.state()),
}


def _sane_answer_of_sqs(value: Any) -> bool:
    match value:
        case None:
            return True
        case QueueState():
            return value.visible + value.visibility_seconds >= 0 and value.arn != ""
        case [Message(), *_] | []:
            return all(
                is_plain(each.message_id + each.receipt_handle)
                and type(each.body) is str
                and each.receive_count >= 1
                and type(each.sent_at) in {float, type(None)}
                and all(isinstance(text, str) for text in each.attributes.values())
                for each in value
            )
        case _:
            return len(value) == len(_HANDLES) and all(
                each is None or (isinstance(each, Failed) and isinstance(each.detail, str))
                for each in value
            )


@pytest.mark.parametrize("name", SQS_CALLS)
async def test_sqs(server: OddServer, clients: AwsClients, name: str) -> None:
    good, call = SQS_CALLS[name]
    queue = SqsQueue(clients.sqs_polling, clients.sqs, f"{server.url}/123456789012/jobs")

    async def ask() -> object:
        return await call(queue)

    answers = [*HTTP_ODDITIES.items(), *((key, http(200, body)) for key, body in twisted(good))]
    if name == "state":
        odd = (_with_policy(policy) for policy in _ODD_POLICIES)
        answers += [(f"policy {number}", http(200, body)) for number, body in enumerate(odd)]
    with capture_logs():
        assert await leaks(ask, answers, _giver(server), _sane_answer_of_sqs) == []


def _with_policy(policy: str) -> bytes:
    attributes = {**_ATTRIBUTES["Attributes"], "RedrivePolicy": policy}
    return json.dumps({"Attributes": attributes}).encode()


@pytest.mark.parametrize("odd", ["GetQueueUrl", "/dlq"])
async def test_the_dead_letter_queue(server: OddServer, clients: AwsClients, odd: str) -> None:
    """Its URL and its own count: whatever comes, the state of the queue itself is known, unless all
    of SQS is away.
    """
    url = f"{server.url}/123456789012/dlq"
    good: dict[str, Any] = {
        "GetQueueUrl": {"QueueUrl": url},
        "/dlq": {"Attributes": {"QueueArn": DEAD_LETTERS_ARN, **_COUNTS}},
        "POST": _ATTRIBUTES,
    }

    def give(answer: bytes) -> None:
        usual = {word: http(200, json.dumps(body).encode()) for word, body in good.items()}
        server.answer = usual | {odd: answer}

    async def ask() -> object:
        return await SqsQueue(
            clients.sqs_polling, clients.sqs, f"{server.url}/123456789012/jobs"
        ).state()

    twists = ((key, http(200, body)) for key, body in twisted(good[odd]))
    with capture_logs():
        assert await leaks(ask, [*HTTP_ODDITIES.items(), *twists], give, _sane_answer_of_sqs) == []


def _giver(server: OddServer) -> Callable[[bytes], None]:
    def give(answer: bytes) -> None:
        server.answer = answer

    return give


# --- SageMaker and STS ----------------------------------------------------------------------------

_DESCRIPTION = {
    "TrainingJobName": NAME,
    "TrainingJobArn": ARN,
    "TrainingJobStatus": "Completed",
    "SecondaryStatus": "Completed",
    "CreationTime": 1763628000.05,
    "TrainingEndTime": 1763628999.05,
    "HyperParameters": {"eta": "0.2"},
    "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m.tar.gz"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
    "InputDataConfig": [
        {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/t"}}}
    ],
    "FinalMetricDataList": [{"MetricName": "auc", "Value": 0.9, "Timestamp": 1763628000}],
    "BillableTimeInSeconds": 60,
    "FailureReason": "none",
}
_ODD_TIMES = [b'"soon"', b"9999999999999999", b"-9999999999999", b"1e999", b"NaN", b'"9999999"']
_TAGS = {"Tags": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}]}

SAGEMAKER_CALLS: Mapping[str, tuple[Any, Callable[[SageMakerTrainingJobs], Awaitable[object]]]] = {
    "describe": (_DESCRIPTION, lambda jobs: jobs.describe(NAME)),
    "tags": (_TAGS, lambda jobs: jobs.tags(ARN)),
    "probe": (_DESCRIPTION, lambda jobs: jobs.probe()),
}


def _sane_answer_of_sagemaker(value: Any) -> bool:
    """A description must be one that the flow can read, down to the run that is written."""
    if value is None:
        return True
    if "TrainingJobArn" not in value:
        return all(isinstance(text, str) for text in (*value, *value.values()))
    try:
        described = DescribedJob.of(value)
    except ValueError:
        return True  # the job is deferred
    tags = JobTags("churn", "amara", "who leaves", "churn-xgb", "XGBoost")
    return training_run(described, tags, {}, ["*secret*"]).name.lower() == NAME


@pytest.mark.parametrize("name", SAGEMAKER_CALLS)
async def test_sagemaker(server: OddServer, clients: AwsClients, name: str) -> None:
    good, call = SAGEMAKER_CALLS[name]
    jobs = SageMakerTrainingJobs(clients.sagemaker, Home("123456789012", "eu-west-1"))

    async def ask() -> object:
        jobs._last_described = (NAME, ARN)
        return await call(jobs)

    answers = [*HTTP_ODDITIES.items(), *((key, http(200, body)) for key, body in twisted(good))]
    for time in _ODD_TIMES:
        body = json.dumps(_DESCRIPTION).encode().replace(b"1763628000.05", time)
        answers.append((f"created {time!r}", http(200, body)))
    with capture_logs():
        assert await leaks(ask, answers, _giver(server), _sane_answer_of_sagemaker) == []


async def test_sts(server: OddServer, clients: AwsClients) -> None:
    """The account stays unknown; nothing else happens."""

    def identity(account: str) -> bytes:
        return http(
            200,
            "<GetCallerIdentityResponse><GetCallerIdentityResult>"
            f"{account}</GetCallerIdentityResult></GetCallerIdentityResponse>".encode(),
            Content_Type="text/xml",
        )

    accounts = [
        "<Account/>",
        "<Account>me</Account>",
        "<Account><a/></Account>",
        "<Account>1</Account>",
    ]
    accounts += ["<Account>123456789012</Account>" * 2, "<Arn>a</Arn>"]
    answers = [*HTTP_ODDITIES.items(), *((each, identity(each)) for each in accounts)]

    async def ask() -> object:
        return await resolve_home(clients, None)

    with capture_logs():
        found = await leaks(ask, answers, _giver(server), lambda home: home.account is None)
    assert found == []


# --- ModelDB V2 -----------------------------------------------------------------------------------

_ATTRIBUTE = {"key": "sagemaker_training_job_arn", "value": ARN}
_PROJECT = {
    "id": "p",
    "name": "churn",
    "description": "d",
    "attributes": [_ATTRIBUTE],
    "date_created": "1763628000050",
}
_EXPERIMENT = {"id": "e", "name": "xgb", "date_created": "1763628000050"}
_RUN = {**_PROJECT, "project_id": "p", "experiment_id": "e"}

V2_CALLS: Mapping[str, tuple[Any, Callable[[ModelDbV2Client], Awaitable[object]]]] = {
    "get_projects_page": ({"projects": [_PROJECT]}, lambda api: api.get_projects_page()),
    "get_project_by_id": ({"project": _PROJECT}, lambda api: api.get_project_by_id("p")),
    "find_projects": ({"projects": [_PROJECT]}, lambda api: api.find_projects("churn")),
    "create_project": ({"project": _PROJECT}, lambda api: api.create_project({"name": "churn"})),
    "update_project_description": (
        {"project": _PROJECT},
        lambda api: api.update_project_description("p", "d"),
    ),
    "update_project_attribute": (
        {"project": _PROJECT},
        lambda api: api.update_project_attribute("p", "k", "v"),
    ),
    "find_experiments": (
        {"experiments": [_EXPERIMENT]},
        lambda api: api.find_experiments("p", "xgb"),
    ),
    "create_experiment": (
        {"experiment": _EXPERIMENT},
        lambda api: api.create_experiment({"name": "xgb"}),
    ),
    "get_experiment_by_id": (
        {"experiment": _EXPERIMENT},
        lambda api: api.get_experiment_by_id("e"),
    ),
    "create_experiment_run": (
        {"experiment_run": _RUN},
        lambda api: api.create_experiment_run({"name": NAME}),
    ),
    "get_experiment_run_by_name": (
        {"experiment_run": _RUN},
        lambda api: api.get_experiment_run_by_name("e", NAME),
    ),
    "get_experiment_run_by_id": (
        {"experiment_run": _RUN},
        lambda api: api.get_experiment_run_by_id("r"),
    ),
    "find_experiment_runs": (
        {"experiment_runs": [_RUN]},
        lambda api: api.find_experiment_runs({"name": NAME}),
    ),
    "delete_experiment_runs": ({"status": True}, lambda api: api.delete_experiment_runs(["r"])),
}


def _sane_answer_of_v2(value: Any) -> bool:
    entities = value if isinstance(value, tuple) else (value,)
    return value is None or all(
        isinstance(each, Project | Experiment | Run)
        and type(each.date_created) is int
        and is_plain(each.id + each.name)
        for each in entities
    )


@pytest.mark.parametrize("name", V2_CALLS)
async def test_modeldb_v2(server: OddServer, name: str) -> None:
    good, call = V2_CALLS[name]
    client = ModelDbV2Client(
        server.url, headers={}, tls=None, timeout_seconds=10, max_concurrency=4
    )

    async def ask() -> object:
        try:
            return await call(client)
        except ApiError as error:
            raise fault_of_v2(error) from error

    answers = [*HTTP_ODDITIES.items(), *((key, http(200, body)) for key, body in twisted(good))]
    for body in (b'{"code": 5, "message": %s}', b'{"code": 13, "error": %s}'):
        for member in (b"5", b"[1]", b'"\\ud800"', b"NaN", b"[" * 900 + b"]" * 900):
            status = 404 if b"5," in body else 500
            answers.append((f"{status} message {member[:9]!r}", http(status, body % member)))
    try:
        with capture_logs():
            assert await leaks(ask, answers, _giver(server), _sane_answer_of_v2) == []
    finally:
        await client.aclose()


# --- MLflow ---------------------------------------------------------------------------------------

_MLFLOW_RUN = {
    "info": {
        "run_id": "r",
        "run_name": NAME,
        "experiment_id": "7",
        "status": "FINISHED",
        "start_time": 1763628000000,
        "end_time": "1763628000001",
        "lifecycle_stage": "active",
    },
    "data": {
        "tags": [{"key": "a", "value": "b"}],
        "params": [{"key": "lr", "value": "0.1"}],
        "metrics": [{"key": "auc", "value": 0.5, "timestamp": 1763628000001, "step": 0}],
    },
    "inputs": {
        "dataset_inputs": [
            {
                "dataset": {"name": "t", "digest": "0a", "source_type": "s3", "source": "{}"},
                "tags": [{"key": "mlflow.data.context", "value": "train"}],
            }
        ]
    },
}
_MLFLOW_EXPERIMENT = {
    "experiment_id": "7",
    "name": "churn",
    "lifecycle_stage": "active",
    "tags": [{"key": "a", "value": "b"}],
}
_MLFLOW_VERSION = {
    "name": "churn",
    "version": "1",
    "run_id": "r",
    "source": "s3://b/k",
    "description": "d",
    "tags": [{"key": "a", "value": "b"}],
}
MLFLOW_CALLS: dict[str, tuple[Any, Callable[[MlflowClient], Awaitable[Any]]]] = {
    "get_experiment_by_name": (
        {"experiment": _MLFLOW_EXPERIMENT},
        lambda api: api.get_experiment_by_name("churn"),
    ),
    "create_experiment": ({"experiment_id": "7"}, lambda api: api.create_experiment("churn", {})),
    "search_experiments": (
        {"experiments": [_MLFLOW_EXPERIMENT], "next_page_token": "t"},
        lambda api: api.search_experiments(max_results=1),
    ),
    "create_run": (
        {"run": _MLFLOW_RUN},
        lambda api: api.create_run("7", run_name=NAME, start_time=1, tags={"a": "b"}),
    ),
    "log_batch": ({}, lambda api: api.log_batch("r", params={"lr": "0.1"})),
    "update_run": (
        {"run_info": {"status": "FINISHED"}},
        lambda api: api.update_run("r", status="FINISHED"),
    ),
    "search_runs": (
        {"runs": [{"info": _MLFLOW_RUN["info"]}], "next_page_token": ""},
        lambda api: api.search_runs(["7"], "f"),
    ),
    "create_registered_model": (
        {"registered_model": {"name": "churn"}},
        lambda api: api.create_registered_model("churn"),
    ),
    "create_model_version": (
        {"model_version": _MLFLOW_VERSION},
        lambda api: api.create_model_version("churn", source="s3://b/k", run_id="r"),
    ),
    "search_model_versions": (
        {"model_versions": [_MLFLOW_VERSION]},
        lambda api: api.search_model_versions("f"),
    ),
}


def _sane_answer_of_mlflow(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_sane_answer_of_mlflow, value))
    if isinstance(value, mlflow_entities.Run):
        numbers = [value.start_time, value.end_time or 0]
        numbers += [point.step for point in value.metrics.values()]
        return {type(number) for number in numbers} == {int} and is_plain(value.id)
    if isinstance(value, mlflow_entities.Experiment):
        return bool(value.id) and is_plain(value.id + value.name)
    if isinstance(value, mlflow_entities.ModelVersion):
        return value.version.isdecimal()
    return value is None or (isinstance(value, str) and is_plain(value))


@pytest.mark.parametrize("name", MLFLOW_CALLS)
async def test_mlflow(server: OddServer, name: str) -> None:
    good, call = MLFLOW_CALLS[name]
    session = HttpSession(HINTS, headers={}, tls=None, timeout_seconds=10, max_concurrency=4)
    client = MlflowClient(session, server.url)

    async def ask() -> object:
        try:
            return await call(client)
        except MlflowApiError as error:
            raise fault_of_mlflow(error) from error

    answers = [(key, http(200, body)) for key, body in twisted(good)]
    if name == "create_run":  # what is no answer of the API is the same for all calls
        answers += HTTP_ODDITIES.items()
    for code, status in (("RESOURCE_DOES_NOT_EXIST", 404), ("INTERNAL_ERROR", 500)):
        for member in (b"5", b"[1]", b'"\\ud800"', b"NaN", b"[" * 900 + b"]" * 900):
            body = b'{"error_code": "%s", "message": %s}' % (code.encode(), member)
            answers.append((f"{status} message {member[:9]!r}", http(status, body)))
    answers += [
        (f"error_code {odd!r}", http(400, b'{"error_code": %s}' % odd))
        for odd in (b"5", b"[1]", b'"\\ud800"', b"null", b'"5"')
    ]
    try:
        with capture_logs() as logs:
            assert await leaks(ask, answers, _giver(server), _sane_answer_of_mlflow) == []
        assert [log for log in logs if log["event"] == "unforeseen error in a call"] == []
    finally:
        await client.aclose()


# --- ModelDB V1 -----------------------------------------------------------------------------------

_JOB = map_job(job(), metadata_store=True)
V1_CALLS: Mapping[str, dict[str, object]] = {
    "testConnection": {},
    "getProjectIds": {"keyValuePairs": {"name": "churn"}},
    "getModelIds": {"keyValuePairs": {"_id": "none"}},
    "getRunsAndExperimentsInProject": {"projId": 1},
    "getExperimentRunDetails": {"experimentRunId": 1},
    "storeProjectEvent": {"pr": requests.project_event(_JOB)},
    "storeExperimentEvent": {"er": requests.default_experiment_event(1)},
    "storeExperimentRunEvent": {"er": requests.run_event(1, _JOB)},
    "storeFitEvent": {"fe": requests.fit_event(1, _JOB)},
    "storeDataFrame": {"df": requests.data_frame(_JOB.data_frames[0]), "experimentRunId": 1},
    "storeMetricEvent": {"me": requests.metric_event(1, 1, 1, _JOB.metrics[0])},
    "computeModelAncestry": {"modelId": 1},
    "updateProject": {"projectId": 1, "key": "description", "value": "d"},
}


def _good(kind: int, of: Any, depth: int = 6) -> Any:
    """A value of the interface with every member set."""
    if kind == TType.STRUCT:
        value = of()
        for member, name, *rest in of.thrift_spec.values():
            setattr(value, name, _good(member, rest[0], depth - 1) if depth else None)
        return value
    if kind in {TType.LIST, TType.SET}:
        return [_good(*_side(of), depth)]
    if kind == TType.MAP:
        return {_good(*_side(of[0]), depth): _good(*_side(of[1]), depth)}
    if kind == TType.STRING:
        return "text"
    return True if kind == TType.BOOL else 1.0 if kind == TType.DOUBLE else 1


def _side(side: Any) -> tuple[int, Any]:
    return (side, None) if isinstance(side, int) else side


def _good_reply(method: str) -> bytes:
    kind, _, *rest = getattr(INTERFACE.ModelDBService, f"{method}_result").thrift_spec[0]
    return encode_reply(method, FIRST_SEQUENCE_ID, _good(kind, rest[0]))


def _frames(method: str) -> Iterator[tuple[str, bytes]]:
    """Odd answers to a method, on the wire."""
    good = _good_reply(method)
    head = good[: 12 + len(method)]
    step = max(1, len(good) // 60)
    for at in range(0, len(good), step):
        yield f"cut at {at}", framed(good[:at])
        for value in (0, 0x0B, 0x7F, 0x80, 0xFF):
            yield f"byte {at} is {value}", framed(good[:at] + bytes([value]) + good[at + 1 :])
        yield f"cut off at {at}", framed(good)[: at + 4]
    yield "more after it", framed(good + b"more")
    yield "nothing in it", framed(head + b"\x00")
    empty = {TType.STRUCT: b"\x0c\x00\x00\x00\x00", TType.LIST: b"\x0f\x00\x00\x0c\x00\x00\x00\x01"}
    yield "an empty struct", framed(head + empty[TType.STRUCT])
    yield "a list of structs", framed(head + empty[TType.LIST] + b"\x00\x00")
    yield "nested too deeply", framed(head + b"\x0c\x00\x63" * 50_000 + b"\x00" * 50_001)
    yield "lists in lists", framed(head + b"\x0f\x00\x63" + b"\x0f\x00\x00\x00\x01" * 50_000)
    yield "a billion items", framed(head + b"\x0f\x00\x63\x02\x3b\x9a\xca\x00")
    yield "a text of -1 bytes", framed(head + b"\x0b\x00\x63\xff\xff\xff\xff")
    yield "no UTF-8", framed(head + b"\x0b\x00\x00\x00\x00\x00\x02\xff\xfe\x00")
    yield "a type that is none", framed(head + b"\x63\x00\x00\x00")
    yield "another method", framed(encode_reply("testConnection", FIRST_SEQUENCE_ID + 1, 5))
    for length in (0, 1, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"a frame of {length} bytes", length.to_bytes(4, "big") + good
    for number in (0, 1, 6, -1, 99, 2**31 - 1):
        failure = ApplicationException(number, "nein\x00\x1b[2J" * 500)
        yield (
            f"error {number}",
            framed(encode_application_exception(method, FIRST_SEQUENCE_ID, failure)),
        )
    for made in (
        INTERFACE.ServerLogicException(message="a" * 100_000),
        INTERFACE.ServerLogicException(),
    ):
        with contextlib.suppress(ValueError):  # not all methods declare it
            yield "an exception", framed(encode_exception(method, FIRST_SEQUENCE_ID, made))
    for name, raw in HTTP_ODDITIES.items():
        if not name.startswith(("403", "404", "500", "502")):
            yield name, raw


@pytest.mark.parametrize("method", V1_CALLS)
async def test_modeldb_v1(method: str) -> None:
    answer = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await read_call(reader)
            writer.write(answer)
            await writer.drain()

    def give(raw: bytes) -> None:
        nonlocal answer
        answer = raw

    def sane(value: Any) -> bool:
        return missing_member(method, value) is None and type(value) is type(good)

    good = decode_reply(_good_reply(method)).result
    async with listening(serve) as port:

        async def ask() -> object:
            connection = await Connection.open("127.0.0.1", port, call_seconds=5)
            try:
                return await connection.call(method, **V1_CALLS[method])
            except CallFailed as failed:
                raise fault_of_v1(failed) from failed
            finally:
                await connection.aclose()

        with capture_logs():
            assert await leaks(ask, _frames(method), give, sane) == []
