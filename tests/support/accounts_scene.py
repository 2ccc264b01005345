"""A gate in front of moto's STS, which denies some roles, and training jobs of several accounts in
moto.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import aiohttp
from aiobotocore.session import get_session
from aiohttp import web
from moto.core.utils import camelcase_to_underscores
from moto.sagemaker.models import sagemaker_backends

from tests.support.daemon_process import CREATED, FULL_TAGS, REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from types_aiobotocore_sagemaker import SageMakerClient

OWN, MEMBER, OTHER = "123456789012", "210987654321", "310987654321"

_DENIAL = """\
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error>
    <Type>Sender</Type>
    <Code>AccessDenied</Code>
    <Message>User: arn:aws:sts::123456789012:assumed-role/modeldb-sync/task is not authorized to \
perform: sts:AssumeRole on resource: {role}</Message>
  </Error>
  <RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId>
</ErrorResponse>
"""


def role_of(account: str) -> str:
    return f"arn:aws:iam::{account}:role/modeldb-sync-member"


@dataclass
class StsGate:
    """Attributes:
    url: its address.
    denied: the roles that cannot be assumed now.
    asked: the parameters of each AssumeRole.
    """

    url: str = ""
    denied: set[str] = field(default_factory=set)
    asked: list[dict[str, str]] = field(default_factory=list)


@asynccontextmanager
async def sts_gate(moto_endpoint: str) -> AsyncIterator[StsGate]:
    """A gate in front of moto."""
    gate = StsGate()

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if asked.get("Action") == "AssumeRole":
            gate.asked.append(asked)
            if asked["RoleArn"] in gate.denied:
                return web.Response(
                    status=403, text=_DENIAL.format(role=asked["RoleArn"]), content_type="text/xml"
                )
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"content-length", "transfer-encoding"}
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(moto_endpoint, data=body, headers=headers) as passed,
        ):
            return web.Response(
                status=passed.status, body=await passed.read(), content_type="text/xml"
            )

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    gate.url = f"http://{host}:{port}"
    try:
        yield gate
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class MemberJob:
    """A finished training job of an account."""

    account: str
    name: str
    region: str = REGION

    @property
    def arn(self) -> str:
        return f"arn:aws:sagemaker:{self.region}:{self.account}:training-job/{self.name}"

    def event(self, *, tags: bool = False) -> str:
        """Its event.

        Args:
            tags: whether they are in it; else they are to be listed.
        """
        detail: dict[str, Any] = {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": "Completed",
            "CreationTime": round(CREATED * 1000),
            **({"Tags": FULL_TAGS} if tags else {}),
        }
        return json.dumps(
            {
                "source": "aws.sagemaker",
                "detail-type": "SageMaker Training Job State Change",
                "account": self.account,
                "region": self.region,
                "resources": [self.arn],
                "detail": detail,
            }
        )


async def put_jobs(moto_endpoint: str, *jobs: MemberJob) -> None:
    """Creates jobs, each in its own account."""
    places = dict.fromkeys((job.account, job.region) for job in jobs)
    for account, region in places:
        async with get_session().create_client(
            "sts", endpoint_url=moto_endpoint, region_name=REGION, **_keys("testing", "testing")
        ) as sts:
            answer = await sts.assume_role(RoleArn=role_of(account), RoleSessionName="the-test")
        assumed = answer["Credentials"]
        async with get_session().create_client(
            "sagemaker",
            endpoint_url=moto_endpoint,
            region_name=region,
            aws_session_token=assumed["SessionToken"],
            **_keys(assumed["AccessKeyId"], assumed["SecretAccessKey"]),
        ) as sagemaker:
            for job in jobs:
                if (job.account, job.region) == (account, region):
                    await _put_job(sagemaker, job)


async def _put_job(sagemaker: SageMakerClient, job: MemberJob) -> None:
    await sagemaker.create_training_job(
        TrainingJobName=job.name,
        AlgorithmSpecification={"TrainingImage": "xgboost:1.7", "TrainingInputMode": "File"},
        RoleArn=role_of(job.account),
        OutputDataConfig={"S3OutputPath": "s3://models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        Tags=[{"Key": key, "Value": value} for key, value in FULL_TAGS.items()],
    )
    made = sagemaker_backends[job.account][job.region].training_jobs[job.name]
    for member in ("CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime"):
        setattr(made, camelcase_to_underscores(member), datetime.fromtimestamp(CREATED, UTC))


def _keys(key: str, secret: str) -> dict[str, Any]:
    return {"aws_access_key_id": key, "aws_secret_access_key": secret}
