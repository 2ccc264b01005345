"""`check` against real sockets: permissions one by one, clocks, tags, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.clock import wall
from daemon.config.sources import load_settings
from daemon.operations.check import SAMPLE_JOBS, check
from daemon.operations.finding import Finding, Verdict
from tests.integration.test_cli import config_of, verb
from tests.support.aws_gate import AwsGate
from tests.support.daemon_process import ACCOUNT, REGION, DaemonScene, Job

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")


async def findings_of(config: str, tmp_path: Path) -> list[Finding]:
    settings = load_settings(Path(config), {}, secrets_dir=tmp_path / "none")
    return [finding async for finding in check(settings)]


def aws_of(scene: DaemonScene, **endpoints: str) -> dict[str, Any]:
    return {
        "region": REGION,
        "account_id": ACCOUNT,
        "sqs_endpoint_url": scene.sqs_endpoint,
        "sagemaker_endpoint_url": scene.sagemaker.url,
        "sts_endpoint_url": scene.sagemaker.url,
        **endpoints,
    }


async def test_every_missing_permission_is_a_line_that_names_it(
    scene: DaemonScene, tmp_path: Path
) -> None:
    denied = {
        "sqs:DeleteMessage": Verdict.FAILED,
        "sqs:ChangeMessageVisibility": Verdict.FAILED,
        "sagemaker:ListTags": Verdict.FAILED,
        "sagemaker:ListTrainingJobs": Verdict.WARNING,
    }
    operations = {action.partition(":")[2] for action in denied}
    operations |= {f"{operation}Batch" for operation in operations}
    await scene.send([Job("p-1").event])
    async with (
        AwsGate(scene.sqs_endpoint, operations) as sqs,
        AwsGate(scene.sagemaker.url, operations) as sagemaker,
    ):
        aws = aws_of(scene, sqs_endpoint_url=sqs.url, sagemaker_endpoint_url=sagemaker.url)
        findings = await findings_of(config_of(scene, aws=aws), tmp_path)

    named = {each.about: each for each in findings if each.about in denied}
    assert {action: each.verdict for action, each in named.items()} == denied
    assert all(f"permission {action} is missing" in each.text for action, each in named.items())
    failed = {each.about for each in findings if each.verdict is Verdict.FAILED}
    assert failed == {action for action, verdict in denied.items() if verdict is Verdict.FAILED}
    assert await scene.depth() == {"visible": 1, "in_flight": 0, "delayed": 0}


async def test_what_cannot_be_tested_without_doing_it_is_said(
    scene: DaemonScene, tmp_path: Path
) -> None:
    findings = await findings_of(config_of(scene), tmp_path)
    assert [
        (each.subject, each.about) for each in findings if "cannot be tested without" in each.text
    ] == [
        ("queue", "sqs:ReceiveMessage"),
        ("queue", "sqs:SendMessage"),
        ("dead-letter queue", "sqs:SendMessage"),
    ]
    assert [each.text for each in findings if each.verdict is Verdict.FAILED] == []


@pytest.mark.parametrize(("off", "verdict"), [(-45, Verdict.WARNING), (400, Verdict.FAILED)])
async def test_a_wrong_clock_is_found_against_aws_and_modeldb(
    scene: DaemonScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    off: float,
    verdict: Verdict,
) -> None:
    monkeypatch.setattr("daemon.http_date.wall", lambda: wall() + off)
    findings = await findings_of(config_of(scene), tmp_path)
    aws, modeldb = [each for each in findings if each.subject == "clock"]
    assert {aws.verdict, modeldb.verdict} == {verdict}
    side = "behind" if off < 0 else "ahead of"
    assert f" {side} that of AWS: synchronise it" in aws.text
    assert f" {side} that of ModelDB: synchronise it" in modeldb.text


async def test_the_tags_of_recent_jobs_are_counted_within_bounds(
    scene: DaemonScene, tmp_path: Path
) -> None:
    jobs = [Job(f"t-{number}", {"team": "ml"}, wall() - 60) for number in range(SAMPLE_JOBS + 5)]
    scene.finish_jobs([*jobs, Job("t-failed", created=wall() - 60, status="Failed")])
    findings = await findings_of(config_of(scene), tmp_path)
    [note] = [each for each in findings if each.about == "jobs.tag_keys.sync"]
    assert (note.verdict, note.text.partition(":")[0]) == (
        Verdict.NOTE,
        f"0 of {SAMPLE_JOBS} finished jobs of the last 7 days have the tag MODEL_DB_SYNC",
    )
    assert scene.sagemaker.count("ListTags") == SAMPLE_JOBS + 1  # and the permission itself


async def test_json_has_the_same_findings_one_object_a_line(scene: DaemonScene) -> None:
    config = config_of(scene, queue={"url": f"{scene.queue_url}-gone"})
    done = await verb("check", "--config", config, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert found[0] == {"subject": "configuration", "verdict": "ok", "text": "", "about": ""}
    [failed] = [each for each in found if each["verdict"] == "failed"]
    assert (failed["subject"], failed["about"]) == ("queue", "sqs:GetQueueAttributes")
    assert "check queue.url" in failed["text"]
