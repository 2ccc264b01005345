"""The section `target` of kind mlflow: read from every source, and the errors for bad values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon.config.settings import secret_values, settings_for_log
from daemon.targets.http.auth import BasicAuth, BearerAuth
from daemon.targets.mlflow.settings import MlflowSettings, SigV4Auth, TokenFileAuth
from tests.support.config_loader import SECRET, Loader

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config.types import Section

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/team"
URI = "http://mlflow:5000"


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path, {"kind": "mlflow", "tracking_uri": URI})


def mlflow(loader: Loader, *config: Any, **variables: str) -> MlflowSettings:
    target = loader.load(*config, **variables).target
    assert isinstance(target, MlflowSettings)
    return target


def test_variables_alone_are_enough(loader: Loader) -> None:
    loader.target = {}
    target = mlflow(loader, None, TARGET__KIND="mlflow", TARGET__TRACKING_URI=URI)
    assert target == MlflowSettings(kind="mlflow", tracking_uri=URI)


@pytest.mark.parametrize(
    ("variables", "auth"),
    [
        (
            {
                "TARGET__AUTH__KIND": "basic",
                "TARGET__AUTH__USERNAME": "ml",
                "TARGET__AUTH__PASSWORD": SECRET,
            },
            {"kind": "basic", "username": "ml", "password": SECRET},
        ),
        (
            {"TARGET__AUTH__KIND": "bearer", "TARGET__AUTH__TOKEN": SECRET},
            {"kind": "bearer", "token": SECRET},
        ),
        (
            {"TARGET__AUTH__KIND": "token_file", "TARGET__AUTH__TOKEN_FILE": "/run/token"},
            {"kind": "token_file", "token_file": "/run/token"},
        ),
        (
            {
                "TARGET__TRACKING_URI": "https://vpce",
                "TARGET__AUTH__KIND": "sigv4",
                "TARGET__AUTH__RESOURCE_ARN": ARN,
            },
            {"kind": "sigv4", "resource_arn": ARN},
        ),
        # as templates render what is not set
        (
            {
                "TARGET__TRACKING_URI": ARN,
                "TARGET__AUTH__KIND": "sigv4",
                "TARGET__AUTH__RESOURCE_ARN": "",
            },
            {"kind": "sigv4", "resource_arn": ARN},
        ),
        ({"TARGET__TRACKING_URI": ARN}, {"kind": "sigv4", "resource_arn": ARN}),
    ],
)
def test_every_kind_of_login_by_variables(
    loader: Loader, variables: dict[str, str], auth: dict[str, str]
) -> None:
    kinds: dict[str, type[Section]] = {
        "basic": BasicAuth,
        "bearer": BearerAuth,
        "token_file": TokenFileAuth,
        "sigv4": SigV4Auth,
    }
    wanted = kinds[auth["kind"]].model_validate(auth)
    assert mlflow(loader, None, **variables).auth == wanted


def test_a_secret_file_and_other_variables(loader: Loader) -> None:
    loader.secret("target__auth__password", f"{SECRET}\n")
    target = mlflow(
        loader,
        {"target": {"auth": {"kind": "basic", "username": "ml"}}},
        TARGET__REGISTER_MODELS="false",
        TARGET__WORKSPACE="",
        TARGET__EXPERIMENT_PREFIX="/Shared/",
        TARGET__HEADERS='{"X-Key": "k"}',
    )
    assert isinstance(target.auth, BasicAuth)
    assert target.auth.password.get_secret_value() == SECRET
    assert (target.register_models, target.workspace) == (False, None)
    assert target.experiment_prefix == "/Shared/"
    assert target.headers["x-key"].get_secret_value() == "k"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"tracking_uri": None}, "target.tracking_uri: is required; set it in the file or as"),
        (
            {"tracking_uri": "mlflow:5000"},
            "target.tracking_uri = 'mlflow:5000': must be an http:// or https:// URL with a host",
        ),
        (
            {"tracking_uri": f"http://mlflow/?token={SECRET}"},
            "target.tracking_uri: must not have a query (?) or a fragment (#)",
        ),
        (
            {"tracking_uri": f"http://ml:{SECRET}@mlflow"},
            "target.tracking_uri: must not contain a user or a password",
        ),
        (
            {"tracking_uri": ARN.replace("arn:aws:", "arn:aws-cn:")},
            "mlflow-tracking-server/team': is in the AWS partition aws-cn; managed MLflow is",
        ),
        (
            {"tracking_uri": "arn:aws:sagemaker:eu-west-1:123456789012:model/a"},
            "model/a': must be the ARN of a SageMaker-managed MLflow, like arn:aws:sagemaker:",
        ),
        (
            {
                "tracking_uri": ARN,
                "auth": {"kind": "basic", "username": "ml", "password": SECRET},
            },
            "target.auth.kind = 'basic': must be sigv4 or left out where target.tracking_uri is an",
        ),
        (
            {"tracking_uri": "https://vpce", "auth": {"kind": "sigv4"}},
            "target.auth.resource_arn: is required: which server is meant behind the URL in target",
        ),
        (
            {"auth": {"kind": "sigv4", "resource_arn": ARN}},
            "target.auth.kind = 'sigv4': must not be sigv4 unless target.tracking_uri is an https",
        ),
        (
            {"tracking_uri": "https://vpce", "auth": {"kind": "sigv4", "resource_arn": "team"}},
            "target.auth.resource_arn = 'team': must be the ARN of a SageMaker-managed MLflow",
        ),
        (
            {"auth": {"kind": "bearer", "token": SECRET, "token_file": "/t"}},
            "target.auth.token_file: does not go with this target.auth.kind",
        ),
        (
            {"auth": {"kind": "token_file", "token_file": "/t", "token": SECRET}},
            "target.auth.token: does not go with this target.auth.kind",
        ),
        ({"auth": {"kind": "token_file"}}, "target.auth.token_file: is required; set it in"),
        (
            {"auth": {"kind": "token_file", "token_file": "/"}},
            "target.auth.token_file = '/': must be the path of a file",
        ),
        (
            {"auth": {"kind": "oauth"}},
            "target.auth.kind = 'oauth': must be one of none, basic, bearer, token_file, sigv4 (",
        ),
        (
            {"auth": {"token": SECRET}},
            "target.auth.kind: is required, one of none, basic, bearer, token_file, sigv4 (",
        ),
        ({"url": "http://mlflow"}, "target.url: does not go with this target.kind"),
        (
            {"headers": {"X-MLFLOW-WORKSPACE": "team"}},
            "target.headers.x-mlflow-workspace: must not be set: the client sets it itself",
        ),
        ({"max_concurrency": 33}, "target.max_concurrency = 33: must be a whole number from 1 to"),
        ({"timeout_seconds": 5}, "target.timeout_seconds = 5: must be a number from 10 to 300"),
        ({"settle_seconds": 0}, "target.settle_seconds = 0: must be a number from 1 to 3600"),
        ({"register_models": "perhaps"}, "target.register_models = 'perhaps': must be true or"),
        ({"experiment_prefix": 5}, "target.experiment_prefix = 5: must be text (in YAML: put it"),
        ({"workspace": "a b"}, "target.workspace = 'a b': must be 1 to 255 visible ASCII"),
        ({"trackinguri": "x"}, "target.trackinguri: is an unknown key; did you mean target.tracki"),
    ],
)
def test_refused(loader: Loader, target: dict[str, Any], words: str) -> None:
    loader.target = {"kind": "mlflow", "tracking_uri": URI} | target
    problem = loader.problem()
    assert words in problem
    assert SECRET not in problem


def test_the_login_of_modeldb_v2_has_its_own_kinds(tmp_path: Path) -> None:
    problem = Loader(tmp_path).problem({"target": {"auth": {"kind": "sigv4"}}})
    assert "target.auth.kind = 'sigv4': must be one of none, basic, bearer, verta (" in problem


@pytest.mark.parametrize(
    ("given", "secrets"),
    [
        (
            {"auth": {"kind": "basic", "username": "ml", "password": SECRET}},
            {SECRET, "bWw6czNjcjN0LVZhbHVl"},
        ),
        ({"auth": {"kind": "bearer", "token": SECRET}}, {SECRET}),
        ({"auth": {"kind": "token_file", "token_file": "/run/token"}}, set()),
        ({"tracking_uri": ARN}, set()),
        ({"headers": {"X-Key": SECRET}}, {SECRET}),
    ],
)
def test_secrets_are_known_and_never_shown(
    loader: Loader, given: dict[str, Any], secrets: set[str]
) -> None:
    settings = loader.load({"target": given})
    assert set(secret_values(settings)) == secrets
    shown = repr(settings) + str(settings) + json.dumps(settings_for_log(settings))
    assert not [secret for secret in secrets if secret in shown]
