"""What `check` says of an MLflow that works, and of one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from daemon.operations.check import target_findings
from daemon.operations.finding import Verdict
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    from pathlib import Path

LOGIN = {"kind": "basic", "username": "admin", "password": "a-long-password"}


async def told(home: Path, uri: str, **more: Any) -> list[tuple[Verdict, str]]:
    target = {"kind": "mlflow", "tracking_uri": uri, **more}
    findings = await target_findings(settings(home / "checkpoint.db", target=target))
    assert {each.subject for each in findings} <= {"target mlflow", "clock"}
    return [(each.verdict, each.text) for each in findings]


@pytest.mark.parametrize("version", ["3.17.2", "2.22.5"])
async def test_its_version_and_its_clock(tmp_path: Path, version: str) -> None:
    async with MlflowStandIn(version=version) as server:
        lines = await told(tmp_path, server.url)
    assert lines == [
        (Verdict.OK, f"{server.url} (MLflow {version})"),
        (Verdict.OK, "this machine and MLflow agree on the time"),
    ]


async def test_a_login_and_a_prefix(tmp_path: Path) -> None:
    logins = {"admin": "a-long-password"}
    async with MlflowStandIn(static_prefix="/ml", logins=logins) as server:
        right = await told(tmp_path, server.url, auth=LOGIN)
        missing = await told(tmp_path, server.url)
        wrong = await told(tmp_path, server.url, auth=LOGIN | {"password": "another-password"})
        elsewhere = await told(tmp_path, server.url.removesuffix("/ml"), auth=LOGIN)
    assert right[0] == (Verdict.OK, f"{server.url} (MLflow 3.17.2)")
    assert right[-1][0] is Verdict.NOTE
    assert "auth_cache_ttl_seconds = 60" in right[-1][1]
    assert [verdict for verdict, _ in missing] == [Verdict.FAILED, Verdict.NOTE]
    assert missing[1][1].endswith("target.auth.username and target.auth.password")
    assert [verdict for verdict, _ in wrong] == [Verdict.FAILED]
    assert "target.auth" in wrong[0][1]
    assert elsewhere[0][0] is Verdict.FAILED


async def test_a_wrong_prefix(tmp_path: Path) -> None:
    async with MlflowStandIn() as server:
        lines = await told(tmp_path, f"{server.url}/ml")
    assert [verdict for verdict, _ in lines] == [Verdict.FAILED, Verdict.NOTE]
    assert lines[1][1] == f"MLflow answers at {server.url}: set target.tracking_uri: {server.url}"


async def test_a_database_that_is_down_is_no_matter_of_the_address(tmp_path: Path) -> None:
    async with MlflowStandIn() as server:
        server.faults.database_down = True
        lines = await told(tmp_path, server.url)
    assert [verdict for verdict, _ in lines] == [Verdict.FAILED]


async def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    async with MlflowStandIn() as server:
        auth = {"kind": "token_file", "token_file": str(tmp_path / "none")}
        lines = await told(tmp_path, server.url, auth=auth)
    assert lines[0][0] is Verdict.FAILED
    assert f"the file {tmp_path / 'none'} cannot be read (No such file or directory)" in lines[0][1]
