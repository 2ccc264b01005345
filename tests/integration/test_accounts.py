"""Several accounts, with moto's server: the roles that are assumed, and the whole daemon as a real
process.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest

from daemon.aws.accounts import AccountAccess, Role
from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.errors import unobserved
from daemon.aws.roles import RoleCredentials, session_name
from daemon.errors import EdgeFault
from daemon.reasons import Reason
from daemon.wiring import jobs_elsewhere
from tests.support.accounts_scene import MEMBER, OTHER, OWN, MemberJob, put_jobs, role_of, sts_gate
from tests.support.daemon_process import REGION, mark_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from daemon.aws.clients import AwsClients
    from daemon.aws.errors import CallResult
    from tests.support.accounts_scene import StsGate
    from tests.support.daemon_process import DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

FRANKFURT = "eu-central-1"


@pytest.fixture
async def gate(moto_endpoint: str) -> AsyncIterator[StsGate]:
    async with sts_gate(moto_endpoint) as made:
        yield made


@pytest.fixture
def calls() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
async def clients(
    gate: StsGate,
    moto_endpoint: str,
    calls: list[tuple[str, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[AwsClients]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", moto_endpoint)

    def observe(service: str, operation: str, result: CallResult) -> None:
        calls.append((service, operation, result))

    async with open_clients(
        queue_url=f"{moto_endpoint}/{OWN}/jobs",
        region=REGION,
        endpoints=Endpoints(sts=gate.url, sagemaker=moto_endpoint),
        accounts=[
            AccountAccess(
                MEMBER, Role(MEMBER, role_of(MEMBER), "an-agreed-word"), (REGION, FRANKFURT)
            ),
            AccountAccess(OTHER, Role(OTHER, role_of(OTHER))),
            AccountAccess(OWN, None, (FRANKFURT,)),
        ],
        observe=observe,
    ) as made:
        yield made


async def test_each_account_and_region_describes_its_own_jobs(
    clients: AwsClients, gate: StsGate, moto_endpoint: str
) -> None:
    jobs = jobs_elsewhere(clients, OWN)
    assert sorted(jobs) == sorted(
        [f"{MEMBER}/{REGION}", f"{MEMBER}/{FRANKFURT}", f"{OTHER}/{REGION}", f"{OWN}/{FRANKFURT}"]
    )
    made = [
        MemberJob(account, "everywhere", region)
        for account, _, region in (where.partition("/") for where in jobs)
    ]
    await put_jobs(moto_endpoint, *made)
    for job in made:
        where = f"{job.account}/{job.region}"
        description = await jobs[where].describe("everywhere")
        assert description["TrainingJobArn"] == job.arn
        assert (await jobs[where].tags(job.arn))["MODEL_DB_PROJECT_NAME"] == "churn"
        await jobs[where].probe()
    # one for both regions of an account, and none for the daemon's own
    assert [asked["RoleArn"] for asked in gate.asked] == [role_of(MEMBER), role_of(OTHER)]


async def test_a_role_is_assumed_with_a_name_that_cloudtrail_shows(
    clients: AwsClients, gate: StsGate, calls: list[tuple[str, str, str]]
) -> None:
    jobs = jobs_elsewhere(clients, OWN)
    await asyncio.gather(*(jobs[f"{MEMBER}/{REGION}"].probe() for _ in range(8)))
    [asked] = gate.asked
    assert asked["RoleSessionName"] == session_name()
    assert asked["RoleSessionName"].startswith("sagemaker-modeldb-sync@")
    assert asked["DurationSeconds"] == "3600"
    assert asked["ExternalId"] == "an-agreed-word"
    assert calls.count(("sts", "AssumeRole", "ok")) == 1
    await jobs[f"{OTHER}/{REGION}"].probe()
    assert "ExternalId" not in gate.asked[1]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("ip-10-0-0-1.eu-west-1", "sagemaker-modeldb-sync@ip-10-0-0-1.eu-west-1"),
        ("a b/ü", "sagemaker-modeldb-sync@a-b--"),
        ("x" * 99, f"sagemaker-modeldb-sync@{'x' * 41}"),
    ],
)
def test_a_session_name_is_one_that_sts_takes(host: str, name: str) -> None:
    assert session_name(host) == name
    assert len(name) <= 64


async def test_a_denied_role_is_the_fault_of_its_account_alone(
    clients: AwsClients, gate: StsGate, calls: list[tuple[str, str, str]]
) -> None:
    jobs = jobs_elsewhere(clients, OWN)
    gate.denied.add(role_of(MEMBER))
    with pytest.raises(EdgeFault):
        await jobs[f"{MEMBER}/{REGION}"].probe()
    gate.asked.clear()
    results = await asyncio.gather(
        *(jobs[f"{MEMBER}/{REGION}"].describe("x") for _ in range(5)), return_exceptions=True
    )
    # one for those who came before it began, and one for those who came later
    assert len(gate.asked) <= 2
    for fault in results:
        assert isinstance(fault, EdgeFault)
        assert fault.where == f"{MEMBER}/{REGION}"
        assert fault.reason is Reason.ACCESS_DENIED
        assert fault.curable
        assert not fault.may_be_the_jobs
        assert role_of(MEMBER) in fault.detail
        assert "sts:AssumeRole" in fault.detail
        assert "an-agreed-word" not in fault.detail
    assert ("sts", "AssumeRole", "credentials") in calls
    await jobs[f"{OTHER}/{REGION}"].probe()
    gate.denied.clear()
    await jobs[f"{MEMBER}/{REGION}"].probe()


class _Sts:
    """Answers as STS does.

    Attributes:
        minutes: how long the credentials of the next answers last; None: there is no answer. The
            last one stays.
    """

    def __init__(self, *minutes: float | None) -> None:
        self.minutes = list(minutes)
        self.asked = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None: ...

    async def assume_role(self, **_request: str) -> dict[str, Any]:
        self.asked += 1
        minutes = self.minutes.pop(0) if len(self.minutes) > 1 else self.minutes[0]
        await asyncio.sleep(0)
        if minutes is None:
            raise OSError("the network is away")
        given = {
            "AccessKeyId": f"key-{self.asked}",
            "SecretAccessKey": "secret",
            "SessionToken": "token",
            "Expiration": datetime.now(UTC) + timedelta(minutes=minutes),
        }
        return {"Credentials": given}


def _credentials(*minutes: float | None) -> tuple[_Sts, RoleCredentials]:
    sts: Any = _Sts(*minutes)
    return sts, RoleCredentials(Role(MEMBER, role_of(MEMBER)), lambda: sts, unobserved)


async def _keys(credentials: RoleCredentials) -> set[str]:
    frozen = await asyncio.gather(
        *(credentials.get_frozen_credentials() for _ in range(5)), return_exceptions=True
    )
    return {getattr(each, "access_key", type(each).__name__) for each in frozen}


async def test_a_session_is_renewed_before_it_ends_by_one_request() -> None:
    sts, credentials = _credentials(14, 60)
    # who asks while the first one is renewed gets what is still valid
    assert await _keys(credentials) <= {"key-1", "key-2"}
    assert await _keys(credentials) == {"key-2"}
    assert sts.asked == 2
    credentials.refused()
    assert await _keys(credentials) == {"key-3"}
    assert sts.asked == 3


async def test_a_session_that_cannot_be_renewed_early_serves_on() -> None:
    _, credentials = _credentials(14, None)
    assert await _keys(credentials) == {"key-1"}


async def test_near_its_end_nothing_but_a_new_session_will_do() -> None:
    sts, credentials = _credentials(9, None)
    assert await _keys(credentials) == {"CredentialsError"}
    sts.minutes = [60]
    [key] = await _keys(credentials)
    assert key.startswith("key-")


# The whole daemon
# ---


@pytest.mark.slow  # a real daemon
async def test_three_accounts_of_which_one_is_denied_and_then_allowed(
    scene: DaemonScene,
    gate: StsGate,
    modeldb: ModelDbV2StandIn,
    moto_endpoint: str,
    free_port: Callable[[], int],
) -> None:
    own, member, denied = (
        [MemberJob(account, f"{word}-{number}") for number in range(count)]
        for account, word, count in ((OWN, "churn", 2), (MEMBER, "fraud", 2), (OTHER, "churn", 20))
    )
    await put_jobs(moto_endpoint, *own, *member, *denied)
    gate.denied.add(role_of(OTHER))
    await scene.send([job.event() for job in denied])
    await scene.send([job.event() for job in (*own, *member)])
    stray = MemberJob("999999999999", "churn-0")
    await scene.send([stray.event()])
    daemon = scene.daemon(
        free_port(),
        aws={"sagemaker_endpoint_url": moto_endpoint, "sts_endpoint_url": gate.url},
        queue={
            "url": scene.queue_url,
            "wait_seconds": 1,
            "max_in_flight": 4,
            "visibility_seconds": 600,  # whatever else the machine does
        },
        jobs={"unknown_accounts": "skip"},
        accounts=[
            {"id": MEMBER, "role_arn": role_of(MEMBER), "external_id": "an-agreed-word"},
            {"id": OTHER, "role_arn": role_of(OTHER)},
        ],
    )
    await daemon.start()
    await daemon.outcomes(4, outcome="synced")
    [skipped] = await daemon.outcomes(1, outcome="skipped")
    assert skipped["reason"] == "unknown_account"
    await daemon.outcomes(20, outcome="held", reason="access_denied")
    assert sorted(arn for arn, _ in map(mark_of, modeldb.runs())) == sorted(
        job.arn for job in (*own, *member)
    )
    samples = await daemon.metrics()
    gauge = "modeldb_sync_account_breaker_open"
    assert samples[f"{gauge}{{account={OTHER},region={REGION}}}"] == 1
    assert samples[f"{gauge}{{account={MEMBER},region={REGION}}}"] == 0
    assert samples[f"{gauge}{{account=own,region=own}}"] == 0
    assert samples["modeldb_sync_breaker_open{edge=sagemaker}"] == 0
    assert samples["modeldb_sync_messages_in_flight"] >= 20
    status, ready = await daemon.get("/readyz")
    assert status == 200
    assert json.loads(ready)["state"] == "ready"
    assert role_of(OTHER) in ready
    _, page = await daemon.get("/")
    assert f"SageMaker of account {OTHER} in {REGION}: access denied" in page
    assert "ModelDBSyncAccountUnavailable" in page
    assert "an-agreed-word" not in page + ready + json.dumps(daemon.log)

    gate.denied.clear()
    await daemon.outcomes(24, outcome="synced")
    await scene.drained()
    assert len(modeldb.runs()) == 24
    assert len({mark_of(run) for run in modeldb.runs()}) == 24
    # churn-0 and churn-1 are in two accounts
    names = [run["name"] for run in modeldb.runs()]
    assert len(set(names)) == 24
    assert sum(name in {"churn-0", "churn-1"} for name in names) == 2
    assert max(line["receive_count"] for line in await daemon.outcomes(24, outcome="synced")) == 1
    assert await scene.dead_letters() == []
    assert await daemon.stop() == 0
