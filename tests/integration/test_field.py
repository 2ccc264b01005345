"""Messages and jobs made after public bug reports, through the whole flow on real sockets. Their
README says what is right.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from daemon.observability.logs import configure_logging
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Reason
from tests.support.daemon_process import mark_of
from tests.support.flow_on_sockets import FlowOnSockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.outcome import Outcome

FIELD = Path(__file__).parents[1] / "data" / "field"
CASES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FIELD.glob("*.json"))}
WITH_ONE_RUN = sorted(CASES.keys() - {"11-aws-batch-service-job", "20-central-bus-other-account"})

# SageMaker's model is read once for all, not once a test
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def module_flow() -> AsyncIterator[FlowOnSockets]:
    async with FlowOnSockets() as flow:
        yield flow


@pytest.fixture
def flow(module_flow: FlowOnSockets, tmp_path: Path) -> FlowOnSockets:
    module_flow.begin(tmp_path)
    return module_flow


async def delivered(
    name: str, flow: FlowOnSockets, rules: FlowRules | None = None
) -> list[Outcome]:
    """The outcomes of the case's messages, one after another."""
    case = CASES[name]
    for description in case["describe"]:
        flow.stub.put_job(description, case["tags"][description["TrainingJobName"]])
    return [
        await flow.deliver(body if isinstance(body, str) else json.dumps(body), rules=rules)
        for body in case["bodies"]
    ]


async def run_of(name: str, flow: FlowOnSockets) -> dict[str, Any]:
    """The only run that the case's messages leave."""
    await delivered(name, flow)
    [run] = flow.server.runs()
    assert isinstance(run, dict)
    return run


def values(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: entry.get("value") for entry in entries}


async def test_the_inputs_are_all_there() -> None:
    assert len(CASES) == 17


@pytest.mark.parametrize(
    "name", sorted(CASES.keys() - {"11-aws-batch-service-job", "18-tags-added-after-completion"})
)
async def test_no_message_about_a_training_job_is_skipped(name: str, flow: FlowOnSockets) -> None:
    outcomes = await delivered(name, flow)
    assert "skipped" not in {outcome.kind for outcome in outcomes}


@pytest.mark.parametrize(
    "name", [each for each in WITH_ONE_RUN if each != "18-tags-added-after-completion"]
)
async def test_the_job_is_synced_once(name: str, flow: FlowOnSockets) -> None:
    outcomes = await delivered(name, flow)
    kinds = [outcome.kind for outcome in outcomes if outcome.kind != "rejected"]
    assert kinds == ["synced"] + ["duplicate"] * (len(kinds) - 1)
    [run] = flow.server.runs()
    [description] = CASES[name]["describe"]
    assert mark_of(run)[0] == description["TrainingJobArn"].lower()


@pytest.mark.parametrize(
    ("statuses", "failed_attempt"),
    [(("Completed",), "skipped"), (("Completed", "Failed"), "synced")],
)
async def test_every_attempt_of_a_batch_job_is_a_job(
    statuses: tuple[str, ...], failed_attempt: str, flow: FlowOnSockets
) -> None:
    outcomes = await delivered(
        "11-aws-batch-service-job", flow, FlowRules(statuses=frozenset(statuses))
    )
    assert [outcome.kind for outcome in outcomes] == ["skipped", failed_attempt, "synced"]
    assert outcomes[0].reason is Reason.OTHER_EVENT
    assert len(flow.server.runs()) == len(statuses)


async def test_members_of_an_input_transformer_in_any_spelling(flow: FlowOnSockets) -> None:
    outcomes = await delivered("36-input-transformer-camel-case", flow)
    assert [outcome.kind for outcome in outcomes] == ["synced"] + ["duplicate"] * 4


async def test_a_message_of_a_person_syncs_a_job_that_was_tagged_later(flow: FlowOnSockets) -> None:
    name = "18-tags-added-after-completion"
    outcomes = await delivered(name, flow)
    assert [(each.kind, each.reason) for each in outcomes] == [("skipped", Reason.NOT_TAGGED)]
    [description] = CASES[name]["describe"]
    tags = CASES["01-metrics-float32-noise"]["tags"]
    flow.stub.put_job(description, next(iter(tags.values())))
    job = description["TrainingJobName"]
    later = await flow.deliver(json.dumps({"TrainingJobName": job}))
    assert later.kind == "synced"


async def test_a_change_of_tags_syncs_a_job_that_was_tagged_later(flow: FlowOnSockets) -> None:
    name = "18-tags-added-after-completion"
    await delivered(name, flow)
    [description] = CASES[name]["describe"]
    tags = next(iter(CASES["01-metrics-float32-noise"]["tags"].values()))
    flow.stub.put_job(description, tags)
    [state_change] = CASES[name]["bodies"]
    detail = {"changed-tag-keys": list(tags), "tags": tags, "service": "sagemaker"}
    change = state_change | {
        "source": "aws.tag",
        "detail-type": "Tag Change on Resource",
        "detail": detail,
    }
    outcomes = [await flow.deliver(json.dumps(change)) for _ in range(2)]
    assert [each.kind for each in outcomes] == ["synced", "duplicate"]
    assert len(flow.server.runs()) == 1


async def test_a_job_of_another_account_is_rejected(flow: FlowOnSockets) -> None:
    [outcome] = await delivered("20-central-bus-other-account", flow)
    assert (outcome.kind, outcome.reason) == ("rejected", Reason.FOREIGN_ACCOUNT)


async def test_metrics_read_back_as_the_same_32_bit_floats(flow: FlowOnSockets) -> None:
    run = await run_of("01-metrics-float32-noise", flow)
    stored = values(run["metrics"])
    [description] = CASES["01-metrics-float32-noise"]["describe"]
    for metric in description["FinalMetricDataList"]:
        value = stored[metric["MetricName"]]
        assert struct.pack("f", value) == struct.pack("f", metric["Value"])
    for metric, shown in CASES["01-metrics-float32-noise"]["expect"]["metrics_for_people"].items():
        assert stored[metric] == shown


async def test_the_instances_are_those_that_were_selected(flow: FlowOnSockets) -> None:
    run = await run_of("02-instance-preferences-selected", flow)
    attributes = values(run["attributes"])
    for key, expected in CASES["02-instance-preferences-selected"]["expect"].items():
        assert attributes[key] == expected
    assert "2 x ml.p5.48xlarge" in attributes["instance_preferences"]
    assert "4 x ml.p4d.24xlarge" in run["description"]


async def test_the_channel_of_the_code_is_no_data_set(flow: FlowOnSockets) -> None:
    run = await run_of("03-network-isolation-code-channel", flow)
    expected = CASES["03-network-isolation-code-channel"]["expect"]
    assert [each["key"] for each in run["datasets"]] == expected["datasets"]
    paths = {each["key"]: each["path"] for each in run["artifacts"]}
    assert paths["source_code"] == expected["source_code"]


async def test_an_evaluation_is_carried_and_is_no_model(flow: FlowOnSockets) -> None:
    run = await run_of("05-serverless-evaluation-job", flow)
    attributes = values(run["attributes"])
    assert attributes["evaluation_type"] == "BenchmarkEvaluation"
    assert attributes["evaluator_arn"].endswith("/JsonDoc/judge/0.0.1")
    assert "MODEL" not in {each["artifact_type"] for each in run["artifacts"]}


async def test_numbers_beyond_a_double_leave_a_note(flow: FlowOnSockets) -> None:
    name = "06-recipe-overrides-dotted-keys"
    [description] = CASES[name]["describe"]
    assert description["BillableTokenCount"] > 2**53
    run = await run_of(name, flow)
    attributes = values(run["attributes"])
    assert str(description["BillableTokenCount"]) in json.dumps(attributes)


async def test_hyperparameters_of_a_built_in_algorithm_lose_their_quotes(
    flow: FlowOnSockets,
) -> None:
    run = await run_of("08-builtin-algorithm-quoted", flow)
    stored = values(run["hyperparameters"])
    assert stored["objective"] == "reg:squarederror"
    assert stored["num_round"] == 100
    assert stored["monotone_constraints"] == "(1,-1)"


async def test_metric_names_stay_readable(flow: FlowOnSockets) -> None:
    run = await run_of("10-metric-names-yolo", flow)
    [description] = CASES["10-metric-names-yolo"]["describe"]
    stored = values(run["metrics"])
    given = sorted(each["Value"] for each in description["FinalMetricDataList"])
    assert sorted(stored.values()) == pytest.approx(given)
    assert {"val/box_loss", "metrics/mAP_0_5"} <= stored.keys()


async def test_secrets_in_other_spellings_go_nowhere(flow: FlowOnSockets) -> None:
    log = io.StringIO()
    configure_logging("debug", "json", log)
    name = "33-secrets-in-other-spellings"
    outcomes = await delivered(name, flow)
    [run] = flow.server.runs()
    for text in (log.getvalue(), repr(outcomes), json.dumps(run), flow.path.read_text("latin-1")):
        assert "LEAK" not in text
        assert "HIDDEN" not in text
    stored = values(run["hyperparameters"])
    [description] = CASES[name]["describe"]
    assert stored["tokens_per_batch"] == 4096
    assert stored["tokenizer"] == "bert"
    assert description["HyperParameters"].keys() <= stored.keys()
