"""The section ``target`` of kind ``mlflow``: what it accepts, refuses and derives."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from daemon.targets.http.auth import BasicAuth, BearerAuth, NoAuth
from daemon.targets.mlflow.settings import MlflowSettings, SigV4Auth, TokenFileAuth
from tests.unit.targets.mlflow.test_managed import APP, SERVER

URL = "http://mlflow:5000"


def settings(**given: Any) -> MlflowSettings:
    return MlflowSettings.model_validate({"kind": "mlflow", "tracking_uri": URL, **given})


def refusal(**given: Any) -> tuple[str, str]:
    """The key of the only error, and its text."""
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    (error,) = caught.value.errors()
    within = (error.get("ctx") or {}).get("key", "")
    return ".".join([*map(str, error["loc"]), *([within] if within else [])]), error["msg"]


def test_an_address_is_enough() -> None:
    found = settings()
    assert found.auth == NoAuth()
    assert (found.base_url, found.address, found.place, found.pages_url) == (URL, URL, URL, URL)
    assert (found.managed, found.single_writer, found.workspace) == (None, None, None)
    assert (found.timeout_seconds, found.max_concurrency, found.settle_seconds) == (30, 8, 30)
    assert (found.experiment_prefix, found.register_models) == ("", True)


@pytest.mark.parametrize(
    ("uri", "base", "place"),
    [
        ("http://MLFlow:5000/", "http://MLFlow:5000", "http://mlflow:5000"),
        ("https://ml.example:443/ml/", "https://ml.example:443/ml", "https://ml.example/ml"),
        ("http://[::1]:5000", "http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_an_address_may_have_a_prefix(uri: str, base: str, place: str) -> None:
    found = settings(tracking_uri=uri)
    assert (found.base_url, found.place) == (base, place)


@pytest.mark.parametrize("arn", [SERVER, APP])
def test_an_arn_implies_its_login_and_its_address(arn: str) -> None:
    for auth in ({}, {"auth": {"kind": "sigv4"}}, {"auth": {"kind": "sigv4", "resource_arn": arn}}):
        found = settings(tracking_uri=arn, **auth)
        assert found.auth == SigV4Auth(kind="sigv4", resource_arn=arn)
        assert found.managed is not None
        assert found.managed.arn == arn
        assert found.base_url == found.managed.base_url
        assert (found.address, found.place, found.pages_url) == (arn, arn.lower(), None)


def test_a_managed_server_is_the_same_one_behind_a_vpc_endpoint() -> None:
    endpoint = "https://vpce-1.experiments.sagemaker.eu-west-1.vpce.amazonaws.com"
    found = settings(tracking_uri=endpoint, auth={"kind": "sigv4", "resource_arn": SERVER})
    assert found.managed is not None
    assert (found.base_url, found.address) == (endpoint, endpoint)
    assert (found.place, found.pages_url) == (SERVER.lower(), None)
    assert found.place == settings(tracking_uri=SERVER).place


def test_the_kinds_of_login() -> None:
    basic = {"kind": "basic", "username": "ml", "password": "pass"}
    assert settings(auth=basic).auth == BasicAuth.model_validate(basic)
    bearer = {"kind": "bearer", "token": "t0k3n"}
    assert settings(auth=bearer).auth == BearerAuth.model_validate(bearer)
    token_file = {"kind": "token_file", "token_file": "/run/secrets/token"}
    assert settings(auth=token_file).auth == TokenFileAuth.model_validate(token_file)


def test_links_go_to_other_pages_if_there_are_some() -> None:
    assert settings(ui_url="https://ml.example/").pages_url == "https://ml.example"
    assert settings(tracking_uri=SERVER, ui_url="https://ml.example").pages_url is not None


def test_a_login_that_is_derived_is_a_secret() -> None:
    login = {"kind": "basic", "username": "ml", "password": "pass"}
    assert settings(auth=login).derived_secrets() == ("bWw6cGFzcw==",)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mlflow:5000", "must be an http:// or https:// URL with a host"),
        ("file:///mlruns", "must be an http:// or https:// URL with a host"),
        ("sqlite:///mlflow.db", "must be an http:// or https:// URL with a host"),
        ("http://ml:pw@mlflow", "must not contain a user or a password: it is shown in logs"),
        ("http://mlflow/?token=x", "must not have a query (?) or a fragment (#)"),
        ("http://mlflow/#/experiments/1", "must not have a query (?) or a fragment (#)"),
        ("http://mlflow/api/2.0/mlflow", "must not contain the path of the API: the client adds"),
        ("http://mlflow/ml/api/2.0", "must not contain the path of the API: the client adds"),
        ("http://mlflow/ajax-api/2.0/mlflow", "must not contain the path of the API"),
        ("databricks", "must be the workspace's URL, https://HOST, with its token in target.auth"),
        ("databricks://profile", "must be the workspace's URL, https://HOST, with its token"),
        (SERVER.replace("arn:aws:", "arn:aws-cn:"), "is in the AWS partition aws-cn; managed"),
        (SERVER.replace("mlflow-tracking-server", "model"), "must be the ARN of a SageMaker-m"),
        (SERVER.upper(), "must be the ARN of a SageMaker-managed MLflow, like arn:aws:sagemaker"),
    ],
)
def test_addresses_that_are_refused(uri: str, words: str) -> None:
    key, text = refusal(tracking_uri=uri)
    assert key == "tracking_uri"
    assert words in text


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        (
            {"tracking_uri": SERVER, "auth": {"kind": "basic", "username": "a", "password": "b"}},
            "auth.kind",
            "must be sigv4 or left out where target.tracking_uri is an ARN",
        ),
        (
            {"tracking_uri": SERVER, "auth": {"kind": "bearer", "token": "t"}},
            "auth.kind",
            "must be sigv4 or left out where target.tracking_uri is an ARN",
        ),
        (
            {"tracking_uri": SERVER, "auth": {"kind": "sigv4", "resource_arn": APP}},
            "auth.resource_arn",
            "must not differ from the ARN in target.tracking_uri",
        ),
        (
            {"tracking_uri": "https://vpce", "auth": {"kind": "sigv4"}},
            "auth.resource_arn",
            "is required: which server is meant behind the URL in target.tracking_uri",
        ),
        (
            {"auth": {"kind": "sigv4", "resource_arn": SERVER}},
            "auth.kind",
            "must not be sigv4 unless target.tracking_uri is an https:// URL or an ARN",
        ),
        (
            {"tracking_uri": "https://vpce", "auth": {"kind": "sigv4", "resource_arn": "arn:x"}},
            "auth.sigv4.resource_arn",
            "must be the ARN of a SageMaker-managed MLflow",
        ),
        (
            {"auth": {"kind": "bearer", "token": "t", "token_file": "/t"}},
            "auth.bearer.token_file",
            "Extra inputs are not permitted",
        ),
        (
            {"auth": {"kind": "token_file", "token_file": "/t", "token": "t"}},
            "auth.token_file.token",
            "Extra inputs are not permitted",
        ),
        ({"auth": {"kind": "token_file"}}, "auth.token_file.token_file", "Field required"),
        (
            {"auth": {"kind": "token_file", "token_file": ""}},
            "auth.token_file.token_file",
            "must be the path of a file",
        ),
        ({"headers": {"Origin": "x"}}, "headers.Origin", "must not be set: the client sets it"),
        (
            {"headers": {"x-mlflow-workspace": "x"}},
            "headers.x-mlflow-workspace",
            "must not be set: the client sets it itself",
        ),
        (
            {"headers": {"X-Amz-Date": "x"}},
            "headers.X-Amz-Date",
            "must not be set: the client sets it itself",
        ),
        (
            {"tracking_uri": SERVER, "headers": {"Authorization": "x"}},
            "headers.Authorization",
            "must not be set beside target.auth",
        ),
        ({"ca_file": __file__}, "ca_file", "must not be set unless target.tracking_uri begins"),
        (
            {"tracking_uri": "https://mlflow", "client_key_file": __file__},
            "client_key_file",
            "must not be set without target.client_cert_file",
        ),
        ({"workspace": "team a"}, "workspace", "visible ASCII characters without spaces"),
        ({"experiment_prefix": "a\nb"}, "experiment_prefix", "must be at most 128 characters"),
        ({"experiment_prefix": "a" * 129}, "experiment_prefix", "must be at most 128 characters"),
        ({"ui_url": "mlflow"}, "ui_url", "must be an http:// or https:// URL with a host"),
    ],
)
def test_values_that_are_refused(given: dict[str, Any], key: str, words: str) -> None:
    found = refusal(**given)
    assert found[0] == key
    assert words in found[1]
