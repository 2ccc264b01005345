"""The verbs with several accounts: moto's server, three accounts, one of which is denied."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.demo.moto_fixes import make_jobs_listable
from daemon.targets.place import TargetPlace
from tests.integration.test_cli import config_of, verb
from tests.support.accounts_scene import MEMBER, OTHER, OWN, MemberJob, put_jobs, role_of, sts_gate
from tests.support.daemon_process import REGION
from tests.support.json_lines import json_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.accounts_scene import StsGate
    from tests.support.daemon_process import DaemonScene

PERIOD = ("--since", "2025-11-20T08:00", "--until", "2025-11-20T10:00")


@pytest.fixture
async def gate(moto_endpoint: str) -> AsyncIterator[StsGate]:
    make_jobs_listable()
    async with sts_gate(moto_endpoint) as made:
        made.denied.add(role_of(OTHER))
        yield made


@pytest.fixture
async def config(scene: DaemonScene, gate: StsGate, moto_endpoint: str) -> str:
    checkpoint = await open_sqlite_checkpoint(
        scene.home / "checkpoint.db", TargetPlace("modeldb-v2", scene.target["url"])
    )
    await checkpoint.aclose()
    accounts: Any = [{"id": each, "role_arn": role_of(each)} for each in (MEMBER, OTHER)]
    return config_of(
        scene,
        aws={
            "region": REGION,
            "account_id": OWN,
            "sqs_endpoint_url": moto_endpoint,
            "sagemaker_endpoint_url": moto_endpoint,
            "sts_endpoint_url": gate.url,
        },
        accounts=accounts,
    )


async def test_check_has_a_line_for_each_account(config: str) -> None:
    done = await verb("check", "--json", "--config", config)
    found = {line["text"]: line["verdict"] for line in json_lines(done.stdout)}
    of_member = f"account {MEMBER} in {REGION}: jobs can be described and listed, and their tags"
    assert found[of_member] == "ok"
    [denied] = [text for text in found if role_of(OTHER) in text]
    assert found[denied] == "failed"
    assert denied.startswith(f"account {OTHER} in {REGION}: ")
    assert done.returncode == 1


@pytest.mark.slow  # some verbs, each with its clients
async def test_backfill_lists_one_account_after_the_other(
    config: str, moto_endpoint: str, gate: StsGate
) -> None:
    own, theirs = MemberJob(OWN, "backfill-own"), MemberJob(MEMBER, "backfill-theirs")
    await put_jobs(moto_endpoint, own, theirs)
    command = ("backfill", *PERIOD, "--dry-run", "--json", "--config", config)

    everywhere = await verb(*command)
    assert everywhere.returncode == 1
    assert f"account {OTHER} in {REGION}" in everywhere.stderr
    assert role_of(OTHER) in everywhere.stderr
    arns = {line["job_arn"] for line in json_lines(everywhere.stdout) if line["kind"] == "job"}
    assert {own.arn, theirs.arn} <= arns
    summaries = [each for each in json_lines(everywhere.stdout) if each["kind"] == "summary"]
    assert [(each["account"], each["region"]) for each in summaries] == [
        (OWN, REGION),
        (MEMBER, REGION),
    ]

    one = await verb(*command, "--account", MEMBER)
    assert one.returncode == 0, one.stderr
    jobs = [line["job_arn"] for line in json_lines(one.stdout) if line["kind"] == "job"]
    assert theirs.arn in jobs
    assert own.arn not in jobs

    none = await verb(*command, "--region", "us-east-1")
    assert none.returncode == 2
    assert f"{MEMBER} in {REGION}" in none.stderr

    gate.denied.clear()
    assert (await verb(*command)).returncode == 0


async def test_sync_and_explain_take_the_arn_of_a_members_job(
    config: str, moto_endpoint: str, scene: DaemonScene
) -> None:
    theirs = MemberJob(MEMBER, "by-arn")
    await put_jobs(moto_endpoint, theirs)
    looked = await verb("explain", theirs.arn, "--json", "--config", config)
    told = json.loads(looked.stdout)
    assert "Completed" in json.dumps(told)
    assert "foreign_account" not in json.dumps(told)

    dry = await verb("sync", theirs.arn, "--dry-run", "--json", "--config", config)
    assert json.loads(dry.stdout)["outcome"] == "synced", dry.stdout
    done = await verb("sync", theirs.arn, "--json", "--config", config)
    assert json.loads(done.stdout)["outcome"] == "synced", done.stdout + done.stderr

    # a name alone is a job of the daemon's own account
    by_name = await verb("sync", theirs.name, "--json", "--config", config)
    assert json.loads(by_name.stdout)["outcome"] == "unknown_job"
    stranger = theirs.arn.replace(MEMBER, "999999999999")
    foreign = await verb("sync", stranger, "--json", "--config", config)
    assert json.loads(foreign.stdout)["reason"] == "foreign_account"
