"""Authentication and TLS of the ModelDB V2 client."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import SetupFault
from daemon.targets.modeldb_v2.auth import auth_headers
from daemon.targets.modeldb_v2.errors import ApiErrorKind
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.tls import tls_context
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import asking, error_of, json_answer, serving

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

VERTA = {
    "Grpc-Metadata-source": "PythonClient",
    "Grpc-Metadata-email": "ml@example.com",
    "Grpc-Metadata-developer_key": "dev-key",
    "Grpc-Metadata-developer-key": "dev-key",
}


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"kind": "none"}, {}),
        (
            {"kind": "basic", "username": "ml", "password": "pässword:"},
            {"Authorization": "Basic bWw6cMOkc3N3b3JkOg=="},
        ),
        ({"kind": "bearer", "token": "abc.def"}, {"Authorization": "Bearer abc.def"}),
        ({"kind": "verta", "email": "ml@example.com", "developer_key": "dev-key"}, VERTA),
        (
            {
                "kind": "verta",
                "email": "ml@example.com",
                "developer_key": "dev-key",
                "organization_id": "org",
            },
            VERTA | {"Grpc-Metadata-organization-id": "org"},
        ),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else None,
)
def test_headers_of_each_kind_of_login(auth: dict[str, Any], headers: dict[str, str]) -> None:
    settings = ModelDbV2Settings.model_validate({"url": "http://modeldb/v1", "auth": auth})

    assert auth_headers(settings.auth) == headers


async def no_projects(_request: web.Request) -> web.Response:
    return json_answer(200, {})


async def test_a_private_authority_is_trusted_when_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    async with serving(no_projects, ssl=serving_as(authority.issue("server"))) as url:
        async with asking(url) as client:
            error = await error_of(client.create_experiment_run({}))
        async with asking(url, tls=tls_context(authority.file)) as client:
            assert await client.get_projects_page() == ()

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, False)
    assert "set target.ca_file" in error.detail


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    cert_file, key_file = authority.issue("daemon")
    both = tmp_path / "both.pem"
    both.write_bytes(cert_file.read_bytes() + key_file.read_bytes())
    async with serving(no_projects, ssl=serving_as(authority.issue("server"), authority)) as url:
        for files in ((cert_file, key_file), (both, None)):
            async with asking(url, tls=tls_context(authority.file, *files)) as client:
                assert await client.get_projects_page() == ()
        async with asking(url, tls=tls_context(authority.file)) as client:
            assert (await error_of(client.get_projects_page())).kind is ApiErrorKind.CONNECTION


async def test_a_url_with_the_wrong_scheme_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    async with serving(no_projects) as url, asking(url.replace("http:", "https:")) as client:
        error = await error_of(client.create_experiment_run({}))
    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, False)
    assert "https where it should be http" in error.detail
    async with (
        serving(no_projects, ssl=serving_as(authority.issue("server"))) as url,
        asking(url.replace("https:", "http:")) as client,
    ):
        assert (await error_of(client.get_projects_page())).kind is ApiErrorKind.CONNECTION


def test_without_files_the_systems_authorities_are_trusted() -> None:
    context = tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    cert_file, key_file = authority.issue("daemon")
    _, other_key = authority.issue("other")
    _, locked_key = authority.issue("locked", passphrase=b"open sesame")
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for files, words in [
        ((missing, None, None), ("target.ca_file", "missing.pem", "No such file")),
        ((junk, None, None), ("target.ca_file", "junk.pem")),
        (
            (None, missing, key_file),
            ("target.client_cert_file", "missing.pem", "target.client_key_file"),
        ),
        ((None, cert_file, None), ("target.client_cert_file", "daemon.crt")),
        ((None, cert_file, other_key), ("target.client_cert_file", "other.key")),
        (
            (None, cert_file, locked_key),
            ("target.client_key_file", "locked.key", "without pass phrase"),
        ),
    ]:
        with pytest.raises(SetupFault) as caught:
            tls_context(*files)
        assert all(word in str(caught.value) for word in words)
