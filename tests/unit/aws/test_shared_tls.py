"""Sessions that trust the same authorities share one TLS context."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.httpsession import where

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.shared_tls import SharedTlsSession

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    copy = tmp_path / "bundle.pem"
    shutil.copy(where(), copy)
    return copy


def contexts(proxy_url: str | None = None, **options: Any) -> Any:
    return SharedTlsSession(**options)._build_ssl_contexts(proxy_url)


def test_two_sessions_share_a_context_that_verifies(bundle: Path) -> None:
    first, second = (contexts(verify=verify) for verify in (str(bundle), str(bundle)))
    assert first is second
    assert first[0].verify_mode is ssl.CERT_REQUIRED
    assert first[0].check_hostname
    assert first[0].get_ca_certs()
    assert contexts()[0] is contexts()[0]
    assert contexts()[0].get_ca_certs()


async def test_sessions_that_begin_at_the_same_moment_share_it_too(bundle: Path) -> None:
    made = await asyncio.gather(
        *(asyncio.to_thread(contexts, verify=str(bundle)) for _ in range(4))
    )
    assert len({id(each) for each in made}) == 1


def test_authorities_that_were_replaced_are_read_again(bundle: Path) -> None:
    before = contexts(verify=str(bundle))
    os.utime(bundle, (1, 1))
    assert contexts(verify=str(bundle)) is not before


def test_what_is_special_is_not_shared(bundle: Path) -> None:
    plain = contexts(verify=str(bundle))
    behind_a_proxy = contexts("http://proxy.example:3128", verify=str(bundle))
    assert behind_a_proxy[0] is not plain[0]
    assert behind_a_proxy[1] is not None
    assert contexts(verify=False)[0].verify_mode is ssl.CERT_NONE
    assert contexts(verify=str(bundle)) is plain


def test_a_file_that_is_not_there_is_said_as_before(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - its text is the system's
        contexts(verify=str(tmp_path / "absent.pem"))


async def test_the_clients_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    build = SharedTlsSession._build_ssl_contexts

    def noted(session: SharedTlsSession, proxy_url: str | None) -> Any:
        made.append(build(session, proxy_url))
        return made[-1]

    monkeypatch.setattr(SharedTlsSession, "_build_ssl_contexts", noted)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    nowhere = Endpoints(sqs="http://127.0.0.1:1", sagemaker="http://127.0.0.1:1")
    async with open_clients(
        queue_url="http://127.0.0.1:1/123456789012/q", region="eu-west-1", endpoints=nowhere
    ) as clients:
        for call in (
            clients.sqs_polling.receive_message(QueueUrl="http://127.0.0.1:1/123456789012/q"),
            clients.sagemaker_listing.list_training_jobs(),
        ):
            with pytest.raises(EndpointConnectionError):
                await call
    assert len(made) == 2
    assert made[0] is made[1]
