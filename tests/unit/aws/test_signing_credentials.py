"""The AWS credentials that a target signs with: from the usual chain, and asked again when they are
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.aws.signing_credentials import SigningCredentials
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from pathlib import Path

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"
SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY0"


@pytest.fixture
def source() -> SigningCredentials:
    return SigningCredentials(queue_url=QUEUE_URL, region=None, sqs_elsewhere=False)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return path


def write(file: Path, key: str, token: str = "") -> None:
    session = f"aws_session_token = {token}\n" if token else ""
    file.write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n{session}"
    )


async def test_those_of_the_environment(
    source: SigningCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    found = await source()
    assert (found.access_key, found.secret_key, found.token) == ("AKIAONE", SECRET, "session")


async def test_they_are_kept_until_the_server_refuses_them(
    source: SigningCredentials, file: Path
) -> None:
    write(file, "AKIAONE", "first")
    assert (await source()).access_key == "AKIAONE"
    write(file, "AKIATWO")
    assert (await source()).access_key == "AKIAONE"
    source.refused()
    found = await source()
    assert (found.access_key, found.token) == ("AKIATWO", None)


async def test_none_is_a_fault_of_the_target_until_there_are_some(
    source: SigningCredentials, file: Path
) -> None:
    with pytest.raises(EdgeFault) as caught:
        await source()
    fault = caught.value
    assert (fault.edge, fault.reason, fault.curable) == (Edge.TARGET, Reason.CREDENTIALS, True)
    assert f"{file} (AWS_SHARED_CREDENTIALS_FILE) does not exist" in fault.detail
    write(file, "AKIATHREE")
    assert (await source()).access_key == "AKIATHREE"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{SECRET} = [[[\n", "the AWS file {file} cannot be parsed"),
        (f"[default]\naws_access_key_id = AKIAHALF\n#{SECRET}\n", "is missing; correct the file"),
    ],
)
async def test_a_broken_file_is_named_and_not_quoted(
    source: SigningCredentials, file: Path, content: str, words: str
) -> None:
    file.write_text(content)
    with pytest.raises(EdgeFault) as caught:
        await source()
    assert (caught.value.edge, caught.value.reason) == (Edge.TARGET, Reason.CREDENTIALS)
    assert words.format(file=file) in caught.value.detail
    assert SECRET not in str(caught.value)


async def test_a_region_that_is_not_the_queues_is_told() -> None:
    source = SigningCredentials(queue_url=QUEUE_URL, region="us-east-1", sqs_elsewhere=False)
    with pytest.raises(EdgeFault) as caught:
        await source()
    assert "queue.url is in region eu-west-1, but aws.region says us-east-1" in caught.value.detail
    assert (caught.value.edge, caught.value.curable) == (Edge.TARGET, False)


def test_nothing_is_read_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.aws.signing_credentials.AioSession", None)
    SigningCredentials(queue_url=QUEUE_URL, region=None, sqs_elsewhere=False)
