"""Checks of the settings, and what is shown of their secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from daemon.config.settings import DynamoDbSettings, Settings, secret_values, settings_for_log
from daemon.targets.http.auth import BasicAuth, BearerAuth, NoAuth
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings, VertaAuth
from daemon.training_job.tag_defaults import TagDefaults, Template
from daemon.training_job.tags import TagKeys
from tests.support.config_loader import QUEUE_URL, SECRET, TARGET_URL, Loader, nested

REFUSED: list[tuple[str, Any, str]] = [
    ("aws.region", "EU-West-1", "= 'EU-West-1': must be the name of a region, like eu-west-1"),
    ("aws.region", 5, "= 5: must be text (in YAML: put it in quotes)"),
    ("aws.account_id", "12345678901", "= '12345678901': must be 12 digits"),
    ("aws.account_id", "1234567890123", "= '1234567890123': must be 12 digits"),
    ("aws.account_id", "١٢٣٤٥٦٧٨٩٠١٢", ": must be 12 digits"),
    ("aws.account_id", 123456789012, "= 123456789012: must be 12 digits in quotes"),
    ("aws.account_id", 0o12345670123, "must be 12 digits in quotes"),
    (
        "aws.sqs_endpoint_url",
        "sqs.eu-west-1.amazonaws.com",
        "must be an http:// or https:// URL with a host",
    ),
    ("aws.sts_endpoint_url", "https://user:pw@sts", ": must not contain a user or a password"),
    (
        "aws.sagemaker_endpoint_url",
        "http://host:99999",
        "must be an http:// or https:// URL with a host",
    ),
    ("queue.url", QUEUE_URL + ".fifo", "must be a standard queue: FIFO queues are not supported"),
    (
        "queue.url",
        "arn:aws:sqs:eu-west-1:123456789012:q",
        "must be an http:// or https:// URL with a host",
    ),
    (
        "queue.url",
        "https://sqs.eu-west-1.amazonaws.com/q",
        "must be the queue's URL, like https://sqs.",
    ),
    (
        "queue.url",
        "https://sqs.eu-west-1.amazonaws.com/123/q",
        "must be the queue's URL, like https://sqs.",
    ),
    ("queue.url", "ftp://sqs/123456789012/q", "must be an http:// or https:// URL with a host"),
    ("queue.url", "https:///123456789012/q", "must be an http:// or https:// URL with a host"),
    ("queue.url", "http://[::1/123456789012/q", "must be an http:// or https:// URL with a host"),
    (
        "queue.url",
        f"http://k:{SECRET}@sqs/123456789012/q",
        "queue.url: must not contain a user or a password",
    ),
    (
        "queue.url",
        f"{QUEUE_URL}?X-Amz-Signature={SECRET}",
        "queue.url: must not have a query (?) or a fragment (#)",
    ),
    ("queue.url", 5, "must be text"),
    ("queue.dead_letter_url", QUEUE_URL, "must not be queue.url itself"),
    *(
        ("queue.dead_letter_url", spelling, "must not be queue.url itself")
        for spelling in (
            QUEUE_URL.replace("https", "http"),
            QUEUE_URL.replace("sqs.eu-west-1", "eu-west-1.queue"),
            QUEUE_URL.replace("sqs.eu-west-1.amazonaws.com", "10.0.0.7:9324"),
            QUEUE_URL.replace("sqs.", "vpce-0a-1b.sqs.").replace(".amazonaws", ".vpce.amazonaws"),
            QUEUE_URL.replace("sqs.eu", "SQS.EU") + "/",
        )
    ),
    ("queue.dead_letter_url", "x", "must be an http:// or https:// URL with a host"),
    ("queue.pollers", 0, "= 0: must be a whole number from 1 to 10"),
    ("queue.pollers", 11, "= 11: must be a whole number from 1 to 10"),
    ("queue.pollers", True, "must be a number, not true or false"),
    ("queue.pollers", "two", "= 'two': must be a whole number from 1 to 10"),
    ("queue.pollers", 1.5, "= 1.5: must be a whole number from 1 to 10"),
    ("queue.pollers", [1], "queue.pollers: must be a whole number from 1 to 10"),
    ("queue.wait_seconds", 21, "must be a whole number from 0 to 20"),
    ("queue.wait_seconds", -1, "must be a whole number from 0 to 20"),
    ("queue.max_in_flight", 0, "must be a whole number from 1 to 1000"),
    ("queue.max_in_flight", 1001, "must be a whole number from 1 to 1000"),
    ("queue.visibility_seconds", 29, "must be a whole number from 30 to 43200"),
    ("queue.visibility_seconds", 43201, "must be a whole number from 30 to 43200"),
    ("queue.visibility_seconds", False, "must be a number, not true or false"),
    ("queue.retry.initial_seconds", 0, "must be a whole number from 1 to 43200"),
    ("queue.retry.max_seconds", 43201, "must be a whole number from 1 to 43200"),
    ("queue.retry.max_seconds", 9, "must not be below queue.retry.initial_seconds, which is 10"),
    ("jobs.statuses", [], "must have at least 1 item"),
    (
        "jobs.statuses",
        ["Completed", "InProgress"],
        "jobs.statuses[1] = 'InProgress': must be 'Completed', 'Stopped' or 'Failed'",
    ),
    ("jobs.statuses", ["Completed", "Completed"], "must name each status once"),
    ("jobs.statuses", "Completed", "must be a list"),
    ("jobs.tag_keys.sync", "", "= '': must be 1 to 128 characters, not only spaces"),
    ("jobs.tag_keys.sync", "  ", "must be 1 to 128 characters, not only spaces"),
    ("jobs.tag_keys.sync", "k" * 129, "must be 1 to 128 characters, not only spaces"),
    ("jobs.tag_keys.model_type", "MODEL_DB_SYNC", "must differ from jobs.tag_keys.sync"),
    ("jobs.tag_defaults.project_name", "", "= '': must not be blank"),
    ("jobs.tag_defaults.project_name", 4711, "must be text (in YAML: put it in quotes)"),
    (
        "jobs.tag_defaults.model_name",
        "{tag:team}-{name}",
        "= '{tag:team}-{name}': has the unknown placeholder {name}; allowed: {tag:KEY}, {job}, ",
    ),
    (
        "jobs.tag_defaults.model_type",
        "{job",
        "= '{job': has an unbalanced {; write {{ for a brace",
    ),
    (
        "jobs.tag_defaults.project",
        "churn",
        "jobs.tag_defaults.project: is an unknown key; did you mean jobs.tag_defaults.project_",
    ),
    ("jobs.tag_defaults.sync", "true", "jobs.tag_defaults.sync: is an unknown key"),
    ("jobs.redact", ["a", ""], "jobs.redact[1] = '': must not be empty"),
    ("reconcile.look_back_seconds", 59, "must be a whole number from 60 to 31536000"),
    ("reconcile.every_seconds", 59, "= 59: must be 0 (never) or from 60 to 604800"),
    ("reconcile.every_seconds", -1, "must be a whole number from 0 to 604800"),
    ("reconcile.longest_job_seconds", 3599, "must be a whole number from 3600 to 31536000"),
    ("target.kind", "modeldb", "= 'modeldb': must be one of modeldb-v2, modeldb-v1, mlflow"),
    ("target.kind", "", "= '': must be one of modeldb-v2, modeldb-v1, mlflow"),
    ("target.kind", 1, "= 1: must be one of modeldb-v2, modeldb-v1, mlflow"),
    ("target.kind", ["modeldb-v1"], "target.kind: must be one of modeldb-v2, modeldb-v1, mlflow"),
    ("target.host", "modeldb", "target.host: does not go with this target.kind"),
    ("target.host", f"me:{SECRET}@modeldb", "target.host: does not go with this target.kind"),
    ("target.port", 6543, "target.port: does not go with this target.kind"),
    ("target.server_id", "shared", "target.server_id: does not go with this target.kind"),
    ("target.url", "modeldb:8080/v1", "must be an http:// or https:// URL with a host"),
    (
        "target.url",
        f"http://me:{SECRET}@host/v1",
        "target.url: must not contain a user or a password",
    ),
    (
        "target.url",
        f"http://me:12/{SECRET}@host/v1",
        "target.url: must not contain a user or a password",
    ),
    (
        "target.url",
        f"http://host/v1?key={SECRET}",
        "target.url: must not have a query (?) or a fragment (#)",
    ),
    (
        "target.url",
        f"http://host/v1#{SECRET}",
        "target.url: must not have a query (?) or a fragment (#)",
    ),
    ("target.url", "http://ho st/v1", "without spaces and control characters"),
    ("target.url", "http://host\n/v1", "without spaces and control characters"),
    ("target.url", "http://host:0/v1", "must be an http:// or https:// URL with a host"),
    (
        "target.headers",
        {"X-Key": SECRET + "\n"},
        "target.headers.x-key: must not be empty and not contain line breaks",
    ),
    ("target.headers", {"X-Key": ""}, "target.headers.x-key: must not be empty"),
    (
        "target.headers",
        {"X-Key": 5},
        "target.headers.x-key: must be text (in YAML: put it in quotes)",
    ),
    ("target.headers", {"a b": SECRET}, "target.headers.a b: must be the name of a header"),
    ("target.headers", {"X-Key": "1", "x-key": "2"}, "target.headers.x-key: is given twice"),
    (
        "target.headers",
        {"Content-Type": "x"},
        "target.headers.content-type: must not be set: the client sets it itself",
    ),
    (
        "target.headers",
        {"Host": "x"},
        "target.headers.host: must not be set: the client sets it itself",
    ),
    (
        "target.headers",
        {"X-Long": SECRET * 700},
        "must take at most 7168 bytes together with target.auth; they take 8408",
    ),
    (
        "target.auth",
        {"kind": "oauth"},
        "target.auth.kind = 'oauth': must be one of none, basic, bearer, verta",
    ),
    (
        "target.auth",
        {"token": SECRET},
        "target.auth.kind: is required, one of none, basic, bearer, verta",
    ),
    (
        "target.auth",
        {"kind": "none", "token": SECRET},
        "target.auth.token: does not go with this target.auth.kind",
    ),
    ("target.auth", {"kind": "bearer"}, "target.auth.token: is required"),
    (
        "target.auth",
        {"kind": "bearer", "token": ""},
        "target.auth.token: must be visible ASCII characters",
    ),
    ("target.auth", {"kind": "basic", "username": "a"}, "target.auth.password: is required"),
    (
        "target.auth",
        {"kind": "basic", "username": "a:b", "password": SECRET},
        "target.auth.username: must not",
    ),
    ("target.auth", {"kind": "verta", "email": "a@b"}, "target.auth.developer_key: is required"),
    (
        "target.auth",
        {"kind": "verta", "email": "a b", "developer_key": SECRET},
        "target.auth.email = 'a b': must be 1 to 255",
    ),
    ("target.timeout_seconds", 9.9, "= 9.9: must be a number from 10 to 300"),
    ("target.timeout_seconds", 301, "must be a number from 10 to 300"),
    ("target.timeout_seconds", float("nan"), "must be a number from 10 to 300"),
    ("target.timeout_seconds", True, "must be a number, not true or false"),
    ("target.max_concurrency", 9, "must be a whole number from 1 to 8"),
    ("target.max_concurrency", 0, "must be a whole number from 1 to 8"),
    ("target.settle_seconds", 0, "must be a number from 1 to 3600"),
    ("target.workspace", "", "must be 1 to 255 visible ASCII characters"),
    ("target.ui_url", "host:3000", "must be an http:// or https:// URL with a host"),
    (
        "target.ca_file",
        "/does/not/exist.pem",
        "= '/does/not/exist.pem': must be the path of an existing file",
    ),
    ("target.client_key_file", __file__, "must not be set without target.client_cert_file"),
    ("target.ca_file", __file__, "must not be set unless target.url begins with https://"),
    ("target.client_cert_file", __file__, "must not be set unless target.url begins with https://"),
    ("checkpoint.kind", "dynamodb", "checkpoint.table: is required; set it in the file or as"),
    ("checkpoint.kind", "redis", "= 'redis': must be one of sqlite, dynamodb"),
    ("checkpoint.table", "modeldb-sync", "does not go with this checkpoint.kind"),
    ("checkpoint.path", ":memory:", "must be the path of a file"),
    ("checkpoint.path", "file:x?mode=memory", "must be the path of a file"),
    ("checkpoint.path", "", "must be the path of a file"),
    ("checkpoint.keep_days", 0, "must be a whole number from 1 to 36500"),
    ("http.host", "", "must be 1 to 255 visible ASCII characters"),
    ("http.port", 65536, "must be a whole number from 0 to 65535"),
    ("http.port", -1, "must be a whole number from 0 to 65535"),
    ("http.status_page", "perhaps", "must be true or false"),
    ("log.level", "trace", "= 'trace': must be 'debug', 'info', 'warning' or 'error'"),
    ("log.format", "xml", "= 'xml': must be 'json' or 'console'"),
    ("shutdown.grace_seconds", 24, "= 24: must be at least queue.wait_seconds + 5 = 25"),
    ("shutdown.grace_seconds", 4, "must be a whole number from 5 to 3600"),
]


class TestChecks:
    def test_refused(self, loader: Loader, subtests: pytest.Subtests) -> None:
        for key, value, said in REFUSED:
            with subtests.test(f"{key} = {value!r:.40}"):
                problem = loader.problem(nested(key, value))
                assert problem.startswith(key.rsplit(".", 1)[0])
                assert said in problem
                assert SECRET not in problem
                if "is required;" not in problem:
                    assert f"(file {loader.root}/config.yaml, line " in problem

    def test_a_long_value_is_cut(self, loader: Loader) -> None:
        assert "= 'xxxxxxx" in (problem := loader.problem({"log": {"level": "x" * 1000}}))
        assert len(problem) < 300 + len(str(loader.root))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("aws.account_id", "012345678901"),
            ("aws.region", "us-gov-west-1"),
            ("queue.url", "http://localhost:4566/queue/eu-west-1/000000000000/events"),
            ("queue.url", "http://[::1]:9324/000000000000/events"),
            ("queue.dead_letter_url", f"{QUEUE_URL}-dead"),
            ("queue.pollers", 10),
            ("queue.wait_seconds", 0),
            ("queue.visibility_seconds", 30),
            ("queue.retry.max_seconds", 43200),
            ("jobs.tag_keys.sync", "my tag: ä/+-@"),
            ("jobs.tag_defaults.project_name", "{tag:my team: ä/+-@|pipeline} of {{us}}"),
            ("jobs.tag_defaults.model_name", None),
            ("target.url", "https://modeldb.example.org/api/v1/modeldb"),
            ("target.timeout_seconds", 10),
            ("target.max_concurrency", 8),
            ("target.settle_seconds", 1.5),
            ("http.port", 0),
            ("http.host", "::"),
            ("log.format", "console"),
            ("checkpoint.path", "relative.db"),
        ],
    )
    def test_allowed(self, loader: Loader, key: str, value: object) -> None:
        found: object = loader.load(nested(key, value))
        for name in key.split("."):
            found = getattr(found, name)
        assert found == (
            Path(value) if key == "checkpoint.path" and isinstance(value, str) else value
        )

    def test_a_slash_at_the_end_of_a_url_is_dropped(self, loader: Loader) -> None:
        settings = loader.load(
            {
                "target": {"url": f"{TARGET_URL}/", "ui_url": "http://h:3000/"},
                "queue": {"url": f"{QUEUE_URL}/"},
            }
        )
        assert settings.target == ModelDbV2Settings(url=TARGET_URL, ui_url="http://h:3000")
        assert settings.queue.url == QUEUE_URL

    def test_levels_in_any_case(self, loader: Loader) -> None:
        assert loader.load(LOG__LEVEL="WARNING").log.level == "warning"

    def test_a_shorter_poll_allows_a_shorter_stop(self, loader: Loader) -> None:
        assert (
            loader.load(
                {"queue": {"wait_seconds": 5}, "shutdown": {"grace_seconds": 10}}
            ).shutdown.grace_seconds
            == 10
        )

    def test_the_checkpoint_remembers_at_least_the_look_back(self, loader: Loader) -> None:
        problem = loader.problem(
            {"reconcile": {"look_back_seconds": 3 * 86400}, "checkpoint": {"keep_days": 2}}
        )
        assert problem.startswith(
            "checkpoint.keep_days = 2: must not be below reconcile.look_back_seconds, which is "
            "3.0 days"
        )
        assert loader.problem({"checkpoint": {"keep_days": 4}}).startswith(
            "checkpoint.keep_days = 4: must not be below reconcile.longest_job_seconds, which is "
            "5.0 days"
        )
        enough = {"look_back_seconds": 2 * 86400, "longest_job_seconds": 2 * 86400}
        loader.load({"reconcile": enough, "checkpoint": {"keep_days": 2}})
        never = {"look_back_seconds": 86400, "every_seconds": 0}
        loader.load({"reconcile": never, "checkpoint": {"keep_days": 1}})

    def test_tls_files(self, loader: Loader) -> None:
        pem = str(loader.file("x", "some.pem"))
        target = {
            "url": "https://h/v1",
            "ca_file": pem,
            "client_cert_file": pem,
            "client_key_file": pem,
        }
        assert loader.v2({"target": target}).client_key_file == Path(pem)

    @pytest.mark.parametrize(
        ("auth", "kind"),
        [
            ({"kind": "none"}, NoAuth),
            ({"kind": "basic", "username": "me", "password": SECRET}, BasicAuth),
            ({"kind": "bearer", "token": SECRET}, BearerAuth),
            (
                {
                    "kind": "verta",
                    "email": "a@b.c",
                    "developer_key": SECRET,
                    "organization_id": "7",
                },
                VertaAuth,
            ),
        ],
    )
    def test_kinds_of_login(self, loader: Loader, auth: dict[str, str], kind: type) -> None:
        assert isinstance(loader.v2({"target": {"auth": auth}}).auth, kind)

    def test_a_header_of_the_login_may_be_set_only_without_a_login(self, loader: Loader) -> None:
        headers = {"Authorization": f"Token {SECRET}"}
        assert (
            loader.v2({"target": {"headers": headers}}).headers["authorization"].get_secret_value()
            == f"Token {SECRET}"
        )
        problem = loader.problem(
            {"target": {"headers": headers, "auth": {"kind": "bearer", "token": SECRET}}}
        )
        assert problem.startswith(
            "target.headers.authorization: must not be set beside target.auth"
        )
        assert SECRET not in problem

    def test_the_login_counts_into_the_size_of_the_headers(self, loader: Loader) -> None:
        headers = {"X-A": "a" * 7000}
        loader.load({"target": {"headers": headers}})
        problem = loader.problem(
            {"target": {"headers": headers, "auth": {"kind": "bearer", "token": "t" * 400}}}
        )
        assert "they take 7405" in problem

    def test_headers_as_a_variable_are_json(self, loader: Loader) -> None:
        headers = loader.v2(
            {"target": {"headers": {"X-Old": "1"}}}, TARGET__HEADERS=json.dumps({"X-Key": SECRET})
        ).headers
        assert {name: value.get_secret_value() for name, value in headers.items()} == {
            "x-old": "1",
            "x-key": SECRET,
        }
        for text in (SECRET, f'["{SECRET}"]', "{"):
            problem = loader.problem(TARGET__HEADERS=text)
            assert problem.startswith('target.headers: must be a JSON object, {"name": "value"}')
            assert SECRET not in problem

    def test_tag_defaults_as_plain_data(self, loader: Loader) -> None:
        assert loader.load().jobs.tag_defaults.as_tag_defaults() == TagDefaults()
        assert (
            loader.load({"jobs": {"tag_defaults": {}}}).jobs.tag_defaults.as_tag_defaults()
            == TagDefaults()
        )
        given = loader.load(
            {"jobs": {"tag_defaults": {"project_name": "{tag:team}", "model_type": "none"}}},
            JOBS__TAG_DEFAULTS__MODEL_NAME="{job}",
            JOBS__TAG_DEFAULTS__MODEL_TYPE="XGBoost",
            JOBS__TAG_DEFAULTS__PROJECT_USER="",
        ).jobs.tag_defaults.as_tag_defaults()
        assert given == TagDefaults(
            project_name=Template.parse("{tag:team}"),
            model_name=Template.parse("{job}"),
            model_type=Template.parse("XGBoost"),
        )

    def test_a_bad_tag_default_in_a_variable_is_named_with_it(self, loader: Loader) -> None:
        problem = loader.problem(JOBS__TAG_DEFAULTS__MODEL_NAME="{jobb}")
        assert problem.startswith(
            "jobs.tag_defaults.model_name = '{jobb}': has the unknown placeholder {jobb}; allowed: "
        )
        assert problem.endswith("(variable MODELDB_SYNC_JOBS__TAG_DEFAULTS__MODEL_NAME)")

    def test_tag_keys_as_plain_data(self, loader: Loader) -> None:
        keys = loader.load(
            {"jobs": {"tag_keys": {"sync": "S", "model_type": "T"}}}
        ).jobs.tag_keys.as_tag_keys()
        assert keys == TagKeys(sync="S", model_type="T")

    def test_the_default_tags_are_those_of_the_reader(self, loader: Loader) -> None:
        assert loader.load().jobs.tag_keys.as_tag_keys() == TagKeys()

    def test_frozen(self, loader: Loader) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            loader.load().queue.pollers = 3  # type: ignore[misc] # what mypy refuses is what is shown


class TestSecrets:
    @pytest.fixture
    def settings(self, loader: Loader) -> Settings:
        return loader.load(
            {
                "target": {
                    "headers": {"X-Key": f"{SECRET}-header"},
                    "auth": {"kind": "basic", "username": "me", "password": f"{SECRET}-password"},
                }
            }
        )

    def test_never_in_repr(self, settings: Settings) -> None:
        target = settings.target
        assert isinstance(target, ModelDbV2Settings)
        for text in (
            repr(settings),
            str(settings),
            repr(target),
            repr(target.auth),
            f"{target.headers}",
        ):
            assert SECRET not in text

    def test_for_the_log_it_is_masked_json(self, settings: Settings) -> None:
        shown = settings_for_log(settings)
        assert SECRET not in json.dumps(shown)
        assert shown["target"]["headers"] == {"x-key": "**********"}
        assert shown["target"]["auth"] == {
            "kind": "basic",
            "username": "me",
            "password": "**********",
        }
        assert shown["checkpoint"]["path"] == "/var/lib/modeldb-sync/checkpoint.db"
        assert shown["jobs"]["statuses"] == ["Completed"]

    def test_all_of_them_are_known_to_the_log(self, settings: Settings) -> None:
        login = base64.b64encode(f"me:{SECRET}-password".encode()).decode()
        assert set(secret_values(settings)) == {f"{SECRET}-header", f"{SECRET}-password", login}

    def test_none_without_a_login(self, loader: Loader) -> None:
        assert secret_values(loader.load()) == ()

    def test_pydantics_own_error_does_not_show_them(self) -> None:
        with pytest.raises(ValidationError) as refused:
            Settings.model_validate(
                {"queue": {"url": QUEUE_URL}, "target": {"url": f"http://me:{SECRET}@h"}}
            )
        assert SECRET not in str(refused.value)


class TestDynamoDbCheckpoint:
    def test_the_file_is_the_default(self, loader: Loader) -> None:
        assert loader.load({"checkpoint": {"keep_days": 500}}).checkpoint.kind == "sqlite"

    def test_variables_choose_the_table(self, loader: Loader) -> None:
        chosen = loader.load(CHECKPOINT__KIND="dynamodb", CHECKPOINT__TABLE="sync")

        assert chosen.checkpoint == DynamoDbSettings(table="sync", region="eu-west-1")

    def test_a_secret_file_may_name_the_table(self, loader: Loader) -> None:
        loader.secret("checkpoint__table", "sync\n")

        chosen = loader.load({"checkpoint": {"kind": "dynamodb"}}).checkpoint

        assert isinstance(chosen, DynamoDbSettings)
        assert chosen.table == "sync"

    @pytest.mark.parametrize(
        ("own", "aws", "queue", "region"),
        [
            ("eu-central-1", "eu-west-1", QUEUE_URL, "eu-central-1"),
            (None, "us-east-2", "http://localhost:9324/000000000000/events", "us-east-2"),
            (None, None, QUEUE_URL, "eu-west-1"),
            (None, None, "http://localhost:9324/000000000000/events", None),
        ],
    )
    def test_its_region_is_that_of_the_daemon(
        self, loader: Loader, own: str | None, aws: str | None, queue: str, region: str | None
    ) -> None:
        chosen = loader.load(
            {
                "aws": {"region": aws},
                "queue": {"url": queue},
                "checkpoint": {"kind": "dynamodb", "table": "sync", "region": own},
            }
        ).checkpoint

        assert isinstance(chosen, DynamoDbSettings)
        assert chosen.region == region

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("table", "ab", "must be 3 to 255 letters, digits"),
            ("table", "arn:aws:dynamodb:eu-west-1:1:table/x", "must be 3 to 255 letters, digits"),
            ("region", "Ireland", "must be the name of a region"),
            ("endpoint_url", "dynamodb:4567", "must be an http:// or https:// URL"),
            ("keep_days", 0, "must be a whole number from 1 to 36500"),
            ("keep_days", 1, "must not be below reconcile.longest_job_seconds, which is 5.0 days"),
            ("path", "/x.db", "does not go with this checkpoint.kind"),
        ],
    )
    def test_what_is_no_table_is_refused(
        self, loader: Loader, key: str, value: object, said: str
    ) -> None:
        problem = loader.problem({"checkpoint": {"kind": "dynamodb", "table": "sync", key: value}})
        assert problem.startswith(f"checkpoint.{key}")
        assert said in problem
