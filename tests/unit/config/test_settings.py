"""The configuration: layers, checks, messages, secrets, and the example that documents it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from daemon.config.settings import Settings, secret_values, settings_for_log
from daemon.config.sources import ConfigError, load_settings, setting_keys
from daemon.errors import SetupFault
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import (
    BasicAuth,
    BearerAuth,
    ModelDbV2Settings,
    NoAuth,
    VertaAuth,
)
from daemon.training_job.tags import TagKeys
from tests.support.config_loader import EXAMPLE, QUEUE_URL, SECRET, TARGET_URL, Loader, nested


@pytest.fixture
def here(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


class TestLayers:
    def test_the_shortest_useful_configuration_is_two_urls(self, here: Loader) -> None:
        settings = here.load(f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{url: '{TARGET_URL}'}}")
        assert settings.queue.url == QUEUE_URL
        assert settings.target == ModelDbV2Settings(url=TARGET_URL)
        assert (settings.queue.wait_seconds, settings.shutdown.grace_seconds) == (20, 25)

    def test_variables_alone_are_enough(self, here: Loader) -> None:
        environ = {"MODELDB_SYNC_QUEUE__URL": QUEUE_URL, "MODELDB_SYNC_TARGET__URL": TARGET_URL}
        assert load_settings(None, environ, here.secrets, here.default) == here.load()

    def test_secret_files_go_over_the_file_and_variables_over_both(self, here: Loader) -> None:
        here.secret("queue__pollers", "3\n")
        here.secret("queue__wait_seconds", "3")
        settings = here.load(
            {"queue": {"pollers": 2, "wait_seconds": 2, "max_in_flight": 2}},
            QUEUE__WAIT_SECONDS="4",
            HTTP__PORT="1",
        )
        assert (
            settings.queue.max_in_flight,
            settings.queue.pollers,
            settings.queue.wait_seconds,
        ) == (2, 3, 4)
        assert settings.http.port == 1

    def test_which_file_is_read(self, here: Loader) -> None:
        def text(port: int) -> str:
            required = f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{url: '{TARGET_URL}'}}"
            return f"http: {{port: {port}}}\n{required}"

        given, named = here.file(text(1), "given.yaml"), here.file(text(2), "named.yaml")
        here.file(text(3), "etc/config.yaml")
        variable = {"MODELDB_SYNC_CONFIG": str(named)}
        assert load_settings(given, variable, here.secrets, here.default).http.port == 1
        assert load_settings(None, variable, here.secrets, here.default).http.port == 2
        assert (
            load_settings(None, {"MODELDB_SYNC_CONFIG": ""}, here.secrets, here.default).http.port
            == 3
        )
        assert load_settings(None, {}, here.secrets, here.default).http.port == 3

    def test_variables_and_nested_keys_in_any_case(self, here: Loader) -> None:
        settings = here.load(
            queue__Retry__initial_seconds="7",
            TARGET__AUTH__KIND="bearer",
            Target__Auth__Token=SECRET,
        )
        assert settings.queue.retry.initial_seconds == 7
        assert isinstance(settings.target, ModelDbV2Settings)
        assert isinstance(settings.target.auth, BearerAuth)
        assert settings.target.auth.token.get_secret_value() == SECRET

    def test_variables_without_two_underscores_are_somebody_elses(self, here: Loader) -> None:
        here.load(
            PORT="tcp://10.0.0.1:80",
            SERVICE_HOST="10.0.0.1",
            PORT_8080_TCP_ADDR="10.0.0.1",
            QUEUE="x",
        )
        environ = {"OTHER__KEY": "x", "MODELDB__QUEUE": "x", "PATH": "/bin"}
        load_settings(EXAMPLE, environ, here.secrets, here.default)

    @pytest.mark.parametrize(
        ("variable", "said"),
        [
            ("QUEUE__POLERS", "queue.polers: is an unknown key; did you mean queue.pollers?"),
            ("QEUE__URL", "qeue.url: is an unknown key; did you mean queue.url?"),
            (
                "QUEUE__RETRY__MAX",
                "queue.retry.max: is an unknown key; did you mean queue.retry.max_seconds?",
            ),
            ("_QUEUE__POLLERS", "_queue.pollers: is an unknown key; did you mean queue.pollers?"),
            ("QUEUE__URL__X", "queue.url.x: is an unknown key; did you mean queue.url?"),
            ("ZZ__ZZ", "zz.zz: is an unknown key; sections are aws, queue, jobs,"),
        ],
    )
    def test_an_unknown_variable_is_an_error_with_the_nearest_key(
        self, here: Loader, variable: str, said: str
    ) -> None:
        problem = here.problem(**{variable: SECRET})
        assert problem.startswith(said)
        assert problem.endswith(f"(variable MODELDB_SYNC_{variable})")
        assert SECRET not in problem

    def test_a_variable_for_a_whole_section_is_told_the_keys(self, here: Loader) -> None:
        assert here.problem(QUEUE__RETRY="5") == (
            "queue.retry: has keys of its own; set them one by one, like "
            "MODELDB_SYNC_QUEUE__RETRY__INITIAL_SECONDS"
            " (variable MODELDB_SYNC_QUEUE__RETRY)"
        )

    def test_two_variables_that_differ_in_case_only(self, here: Loader) -> None:
        problem = here.problem(QUEUE__POLLERS="2", queue__pollers="3")
        assert "is given twice, also as MODELDB_SYNC_QUEUE__POLLERS" in problem

    def test_an_empty_variable_is_as_if_not_set_where_the_key_may_be_null(
        self, here: Loader
    ) -> None:
        settings = here.load(
            {"aws": {"region": "eu-west-1"}},
            AWS__REGION="",
            QUEUE__VISIBILITY_SECONDS="",
            TARGET__HEADERS="",
            TARGET__CA_FILE="",
        )
        assert settings.aws.region == "eu-west-1"
        assert settings.queue.visibility_seconds is None
        assert settings.target == ModelDbV2Settings(url=TARGET_URL)

    @pytest.mark.parametrize(
        "variable", ["QUEUE__URL", "QUEUE__POLLERS", "JOBS__REDACT", "JOBS__STATUSES", "LOG__LEVEL"]
    )
    def test_an_empty_variable_is_an_error_elsewhere(self, here: Loader, variable: str) -> None:
        assert f"(variable MODELDB_SYNC_{variable})" in here.problem(**{variable: ""})

    @pytest.mark.parametrize(
        "text",
        [
            "Completed,Failed",
            "Completed, Failed",
            '["Completed", "Failed"]',
            ' ["Completed","Failed"]',
        ],
    )
    def test_lists_in_variables(self, here: Loader, text: str) -> None:
        assert here.load(JOBS__STATUSES=text).jobs.statuses == ("Completed", "Failed")

    @pytest.mark.parametrize("text", ["[", '["a"', "[" * 100_000])
    def test_a_list_that_is_no_json(self, here: Loader, text: str) -> None:
        assert here.problem(JOBS__REDACT=text).startswith(
            "jobs.redact: must be a JSON list, or values separated by commas"
        )

    def test_redaction_is_turned_off_only_on_purpose(self, here: Loader) -> None:
        assert here.load(JOBS__REDACT="[]").jobs.redact == ()

    def test_null_and_nothing_are_the_default(self, here: Loader) -> None:
        settings = here.load(
            f"queue:\n  url: {QUEUE_URL}\n  pollers:\n  retry:\ntarget:\n  url: {TARGET_URL}\n  "
            f"auth:\n  headers:\nlog:\naws: null\n"
        )
        assert settings == here.load()

    def test_everything_wrong_is_said_at_once(self, here: Loader) -> None:
        problems = here.problems(
            {
                "queue": {"url": "nonsense", "pollers": 0},
                "log": {"level": "loud"},
                "nonsense": 1,
                "shutdown": {"grace_seconds": 1},
            },
            TARGET__AUTH__KIND="oauth",
            HTTP__PORT="99999",
        )
        assert len(problems) == 7
        assert len({problem.split(" ")[0].strip(":") for problem in problems}) == 7

    def test_a_config_error_is_a_setup_fault(self) -> None:
        assert issubclass(ConfigError, SetupFault)


class TestSecretFiles:
    def test_a_line_feed_at_the_end_is_no_part_of_a_secret(self, here: Loader) -> None:
        here.secret("target__auth__kind", "basic")
        here.secret("target__auth__username", "modeldb\r\n")
        here.secret("target__auth__password", f" {SECRET} \n")
        auth = here.v2().auth
        assert isinstance(auth, BasicAuth)
        assert (auth.username, auth.password.get_secret_value()) == ("modeldb", f" {SECRET} ")

    def test_other_entries_are_ignored(self, here: Loader) -> None:
        here.secret("database_password", SECRET)
        here.secret("queue__unknown", SECRET)
        here.secret("other__key", SECRET)
        here.secret("queue__retry", SECRET)
        here.secret("..data__x", SECRET)
        (here.secrets / "queue__pollers").mkdir()
        (here.secrets / "kubernetes.io").mkdir()
        assert here.load() == load_settings(
            here.root / "config.yaml", {}, here.root / "missing", here.default
        )

    def test_a_file_instead_of_the_directory_is_ignored(self, here: Loader) -> None:
        here.secrets.write_text("x")
        assert here.load().queue.pollers == 1

    def test_a_bad_value_names_the_file_and_not_the_secret(self, here: Loader) -> None:
        here.secret("target__auth__kind", "bearer")
        here.secret("target__auth__token", f"Bearer {SECRET}")
        assert here.problem() == (
            f"target.auth.token: must be visible ASCII characters without spaces (secret file "
            f"{here.secrets}/target__auth__token)"
        )

    def test_a_file_that_is_no_text(self, here: Loader) -> None:
        here.secrets.mkdir()
        (here.secrets / "target__auth__token").write_bytes(b"\xff\xfe")
        assert "is not UTF-8 text (secret file" in here.problem()

    def test_a_file_that_may_not_be_read(
        self, here: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.secret("queue__pollers", "3")
        here.load()

        def denied(path: Path, **_: str) -> str:
            if path.parent == here.secrets:
                raise PermissionError(13, "Permission denied", str(path))
            return path.read_bytes().decode()

        monkeypatch.setattr(Path, "read_text", denied)
        problem = here.problem()
        assert (
            problem == f"queue.pollers: cannot be read: Permission denied (secret file "
            f"{here.secrets}/queue__pollers)"
        )

    def test_a_directory_that_may_not_be_read(
        self, here: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(self: Path) -> list[Path]:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "iterdir", denied)
        assert (
            here.problem()
            == f"directory of secret files {here.secrets}: cannot be read: Permission denied"
        )

    def test_headers_one_by_one(self, here: Loader) -> None:
        here.secret("target__headers__X-Api-Key", SECRET)
        headers = here.v2({"target": {"headers": {"X-API-KEY": "old", "X-Other": "1"}}}).headers
        assert {name: value.get_secret_value() for name, value in headers.items()} == {
            "x-api-key": SECRET,
            "x-other": "1",
        }


class TestFile:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("queue: [", "is not valid YAML at line 1, column 9: "),
            ("a: b: c", "is not valid YAML at line 1, column 5: mapping values are not allowed"),
            ("\tqueue: 1", "is not valid YAML at line 1, column 1: found character"),
            ("- queue", "must be a mapping of sections, like queue: {url: …}"),
            ("queue", "must be a mapping of sections, like queue: {url: …}"),
            (
                "queue: {}\n---\nqueue: {}\n",
                "is not valid YAML at line 2, column 1: but found another document",
            ),
            (b"\xff\xfe\xff", "is not UTF-8 text"),
            ("queue: \x00", "is not valid YAML: characters"),
            ("queue: 2024-13-45", "is not valid YAML: characters, dates, numbers"),
            ("queue: " + "[" * 1000, "is not valid YAML: characters, dates, numbers or nesting"),
        ],
    )
    def test_an_unusable_file_is_one_line(self, here: Loader, text: str | bytes, said: str) -> None:
        assert here.problem(text).startswith(f"configuration file {here.root}/config.yaml: {said}")

    @pytest.mark.parametrize("value", [f"*{SECRET}", f"!{SECRET} x", f"!x!{SECRET} x"])
    def test_a_secret_taken_for_an_alias_or_a_tag_is_not_repeated(
        self, here: Loader, value: str
    ) -> None:
        problem = here.problem(f"target:\n  auth:\n    token: {value}\n")
        assert "is not valid YAML at line 3" in problem
        assert SECRET not in problem

    def test_a_missing_file_and_a_directory(self, here: Loader) -> None:
        for path, said in (
            (here.root / "none.yaml", "No such file or directory"),
            (here.root, "Is a directory"),
        ):
            with pytest.raises(ConfigError) as refused:
                load_settings(path, {}, here.secrets, here.default)
            assert str(refused.value) == f"configuration file {path}: cannot be read: {said}"

    def test_an_empty_file_leaves_the_required_keys(self, here: Loader) -> None:
        for text in ("", "# nothing\n", "---\n"):
            assert here.problems(text) == [
                "queue.url: is required; set it in the file or as variable MODELDB_SYNC_QUEUE__URL",
                (
                    "target.url: is required; set it in the file or as variable "
                    "MODELDB_SYNC_TARGET__URL"
                ),
            ]

    def test_a_key_given_twice(self, here: Loader) -> None:
        problem = here.problem(
            f"queue:\n  url: {QUEUE_URL}\n  pollers: 1\n  pollers: 2\ntarget: "
            f"{{url: '{TARGET_URL}'}}\n"
        )
        assert (
            problem
            == f"queue.pollers: is given twice (file {here.root}/config.yaml, line 3 and line 4)"
        )

    def test_a_section_given_twice(self, here: Loader) -> None:
        problems = here.problems(
            f"queue: {{pollers: 2}}\ntarget: {{url: '{TARGET_URL}'}}\nqueue: "
            f"{{url: '{QUEUE_URL}'}}\n"
        )
        assert problems == [
            f"queue: is given twice (file {here.root}/config.yaml, line 1 and line 3)"
        ]

    def test_unknown_keys_say_the_line_and_the_nearest_key_and_no_value(self, here: Loader) -> None:
        problems = here.problems(
            f"queue:\n  url: {QUEUE_URL}\n  poler: {SECRET}\ntarget:\n  url: {TARGET_URL}\n  "
            f"auth: {{pasword: {SECRET}}}\n"
            f"chekpoint: {{path: /x}}\n1: 2\n"
        )
        source = f"(file {here.root}/config.yaml, line"
        assert problems == [
            f"queue.poler: is an unknown key; did you mean queue.pollers? {source} 3)",
            (
                f"target.auth.pasword: is an unknown key; did you mean target.auth.password? "
                f"{source} "
                f"6)"
            ),
            f"chekpoint: is an unknown key; did you mean checkpoint? {source} 7)",
            (
                f"1: is an unknown key; sections are aws, queue, jobs, reconcile, target, "
                f"checkpoint, "
                f"http, log, shutdown {source} 8)"
            ),
        ]

    def test_sections_that_are_no_mappings(self, here: Loader) -> None:
        problems = here.problems(
            {"log": "info", "target": {"auth": f"Bearer {SECRET}", "headers": SECRET}}
        )
        assert [problem.split(" (")[0] for problem in problems] == [
            "log: must be a mapping of keys",
            "target.auth: must be a mapping of keys",
            "target.headers: must be a mapping of keys",
        ]
        assert SECRET not in str(problems)

    def test_anchors_and_merges_are_read(self, here: Loader) -> None:
        settings = here.load(
            f"queue:\n  url: {QUEUE_URL}\n  retry: &r {{initial_seconds: 5, max_seconds: 6}}\n"
            f"target: {{url: &u '{TARGET_URL}', ui_url: *u}}\n"
        )
        assert settings.queue.retry.max_seconds == 6
        assert settings.target == ModelDbV2Settings(url=TARGET_URL, ui_url=TARGET_URL)
        merged = here.load(
            # own keys go over merged ones
            f"target: &t {{url: '{TARGET_URL}'}}\nqueue:\n  <<: *t\n  url: {QUEUE_URL}\n"
        )
        assert merged.queue.url == QUEUE_URL

    def test_a_file_that_contains_itself_ends(self, here: Loader) -> None:
        problems = here.problems("queue: &q\n  retry: *q\n  url: *q\njobs: {redact: &r [*r]}\n")
        assert problems[0].startswith("queue.retry.retry: is an unknown key")
        assert any(problem.startswith("jobs.redact[0]: must be") for problem in problems)

    def test_where_a_bad_value_stands(self, here: Loader) -> None:
        problem = here.problem(
            f"queue:\n  url: {QUEUE_URL}\n  pollers: 11\ntarget: {{url: '{TARGET_URL}'}}\n"
        )
        assert (
            problem == f"queue.pollers = 11: must be a whole number from 1 to 10 (file "
            f"{here.root}/config.yaml, line 3)"
        )


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
    ("jobs.redact", ["a", ""], "jobs.redact[1] = '': must not be empty"),
    ("reconcile.look_back_seconds", 59, "must be a whole number from 60 to 31536000"),
    ("reconcile.every_seconds", 3600, "reconcile.every_seconds: is an unknown key"),
    ("target.kind", "mlflow", "= 'mlflow': is not built yet; allowed: modeldb-v2, modeldb-v1"),
    ("target.kind", "modeldb", "= 'modeldb': must be one of modeldb-v2, modeldb-v1"),
    ("target.kind", "", "= '': must be one of modeldb-v2, modeldb-v1"),
    ("target.kind", 1, "= 1: must be one of modeldb-v2, modeldb-v1"),
    ("target.kind", ["modeldb-v1"], "target.kind: must be one of modeldb-v2, modeldb-v1"),
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
    ("checkpoint.kind", "dynamodb", "= 'dynamodb': is not built yet; allowed: sqlite"),
    ("checkpoint.kind", "redis", "= 'redis': must be 'sqlite'"),
    ("checkpoint.path", ":memory:", "must be the path of a file"),
    ("checkpoint.path", "file:x?mode=memory", "must be the path of a file"),
    ("checkpoint.path", "", "must be the path of a file"),
    ("checkpoint.keep_days", 0, "must be a whole number from 1 to 36500"),
    ("http.host", "", "must be 1 to 255 visible ASCII characters"),
    ("http.port", 65536, "must be a whole number from 0 to 65535"),
    ("http.port", -1, "must be a whole number from 0 to 65535"),
    ("http.status_page", True, "http.status_page: is an unknown key"),
    ("log.level", "trace", "= 'trace': must be 'debug', 'info', 'warning' or 'error'"),
    ("log.format", "xml", "= 'xml': must be 'json' or 'console'"),
    ("shutdown.grace_seconds", 24, "= 24: must be at least queue.wait_seconds + 5 = 25"),
    ("shutdown.grace_seconds", 4, "must be a whole number from 5 to 3600"),
]


class TestChecks:
    def test_refused(self, here: Loader, subtests: pytest.Subtests) -> None:
        for key, value, said in REFUSED:
            with subtests.test(f"{key} = {value!r:.40}"):
                problem = here.problem(nested(key, value))
                assert problem.startswith(key.rsplit(".", 1)[0])
                assert said in problem
                assert SECRET not in problem
                if "is required;" not in problem:
                    assert f"(file {here.root}/config.yaml, line " in problem

    def test_a_long_value_is_cut(self, here: Loader) -> None:
        assert "= 'xxxxxxx" in (problem := here.problem({"log": {"level": "x" * 1000}}))
        assert len(problem) < 300 + len(str(here.root))

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
    def test_allowed(self, here: Loader, key: str, value: object) -> None:
        found: object = here.load(nested(key, value))
        for name in key.split("."):
            found = getattr(found, name)
        assert found == (
            Path(value) if key == "checkpoint.path" and isinstance(value, str) else value
        )

    def test_a_slash_at_the_end_of_a_url_is_dropped(self, here: Loader) -> None:
        settings = here.load(
            {
                "target": {"url": f"{TARGET_URL}/", "ui_url": "http://h:3000/"},
                "queue": {"url": f"{QUEUE_URL}/"},
            }
        )
        assert settings.target == ModelDbV2Settings(url=TARGET_URL, ui_url="http://h:3000")
        assert settings.queue.url == QUEUE_URL

    def test_levels_in_any_case(self, here: Loader) -> None:
        assert here.load(LOG__LEVEL="WARNING").log.level == "warning"

    def test_a_shorter_poll_allows_a_shorter_stop(self, here: Loader) -> None:
        assert (
            here.load(
                {"queue": {"wait_seconds": 5}, "shutdown": {"grace_seconds": 10}}
            ).shutdown.grace_seconds
            == 10
        )

    def test_the_checkpoint_remembers_at_least_the_look_back(self, here: Loader) -> None:
        problem = here.problem(
            {"reconcile": {"look_back_seconds": 3 * 86400}, "checkpoint": {"keep_days": 2}}
        )
        assert problem.startswith(
            "checkpoint.keep_days = 2: must not be below reconcile.look_back_seconds, which is "
            "3.0 days"
        )
        here.load({"reconcile": {"look_back_seconds": 2 * 86400}, "checkpoint": {"keep_days": 2}})

    def test_tls_files(self, here: Loader) -> None:
        pem = str(here.file("x", "some.pem"))
        target = {
            "url": "https://h/v1",
            "ca_file": pem,
            "client_cert_file": pem,
            "client_key_file": pem,
        }
        assert here.v2({"target": target}).client_key_file == Path(pem)

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
    def test_kinds_of_login(self, here: Loader, auth: dict[str, str], kind: type) -> None:
        assert isinstance(here.v2({"target": {"auth": auth}}).auth, kind)

    def test_a_header_of_the_login_may_be_set_only_without_a_login(self, here: Loader) -> None:
        headers = {"Authorization": f"Token {SECRET}"}
        assert (
            here.v2({"target": {"headers": headers}}).headers["authorization"].get_secret_value()
            == f"Token {SECRET}"
        )
        problem = here.problem(
            {"target": {"headers": headers, "auth": {"kind": "bearer", "token": SECRET}}}
        )
        assert problem.startswith(
            "target.headers.authorization: must not be set beside target.auth"
        )
        assert SECRET not in problem

    def test_the_login_counts_into_the_size_of_the_headers(self, here: Loader) -> None:
        headers = {"X-A": "a" * 7000}
        here.load({"target": {"headers": headers}})
        problem = here.problem(
            {"target": {"headers": headers, "auth": {"kind": "bearer", "token": "t" * 400}}}
        )
        assert "they take 7405" in problem

    def test_headers_as_a_variable_are_json(self, here: Loader) -> None:
        headers = here.v2(
            {"target": {"headers": {"X-Old": "1"}}}, TARGET__HEADERS=json.dumps({"X-Key": SECRET})
        ).headers
        assert {name: value.get_secret_value() for name, value in headers.items()} == {
            "x-old": "1",
            "x-key": SECRET,
        }
        for text in (SECRET, f'["{SECRET}"]', "{"):
            problem = here.problem(TARGET__HEADERS=text)
            assert problem.startswith('target.headers: must be a JSON object, {"name": "value"}')
            assert SECRET not in problem

    def test_tag_keys_as_plain_data(self, here: Loader) -> None:
        keys = here.load(
            {"jobs": {"tag_keys": {"sync": "S", "model_type": "T"}}}
        ).jobs.tag_keys.as_tag_keys()
        assert keys == TagKeys(sync="S", model_type="T")

    def test_the_default_tags_are_those_of_the_reader(self, here: Loader) -> None:
        assert here.load().jobs.tag_keys.as_tag_keys() == TagKeys()

    def test_frozen(self, here: Loader) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            here.load().queue.pollers = 3  # type: ignore[misc] # what mypy refuses is what is shown


class TestSecrets:
    @pytest.fixture
    def settings(self, here: Loader) -> Settings:
        return here.load(
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

    def test_none_without_a_login(self, here: Loader) -> None:
        assert secret_values(here.load()) == ()

    def test_pydantics_own_error_does_not_show_them(self) -> None:
        with pytest.raises(ValidationError) as refused:
            Settings.model_validate(
                {"queue": {"url": QUEUE_URL}, "target": {"url": f"http://me:{SECRET}@h"}}
            )
        assert SECRET not in str(refused.value)


def fields_of(section: type[BaseModel]) -> list[tuple[str, Any]]:
    return list(section.model_fields.items())


class TestExample:
    text: ClassVar = EXAMPLE.read_text()
    document: ClassVar = yaml.safe_load(text)
    logins: ClassVar = [
        yaml.safe_load(line) for line in re.findall(r"^ *# (auth: \{.*\})$", text, re.MULTILINE)
    ]
    other_targets: ClassVar = [
        yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE))
        for block in re.findall(r"^# target:\n(?:# .*\n)+", text, re.MULTILINE)
    ]

    def shown(self, key: str) -> list[Any]:
        """The values that the example shows for a key, also those commented out."""
        found = []
        for document in (
            self.document,
            *({"target": login} for login in self.logins),
            *self.other_targets,
        ):
            at: Any = document
            for name in key.split("."):
                at = at[name] if isinstance(at, dict) and name in at else KeyError
            if at is not KeyError:
                found.append(at)
        return found

    def test_it_loads_as_it_is(self, here: Loader) -> None:
        settings = load_settings(EXAMPLE, {}, here.secrets, here.default)
        assert settings == here.load()

    def test_it_names_every_key(self) -> None:
        missing = [key for key in setting_keys().fields if not self.shown(key)]
        assert missing == []
        assert len(setting_keys().fields) > 45

    def test_it_shows_the_defaults(self) -> None:
        required = {"queue.url", "target.url"}
        for key, (field, *others) in setting_keys().fields.items():
            if key not in required and not others and not field.is_required():
                default = field.get_default(call_default_factory=True)
                plain = (
                    list(default)
                    if isinstance(default, tuple)
                    else str(default)
                    if isinstance(default, Path)
                    else default
                )
                assert self.shown(key)[0] == plain, key
        assert self.document["target"]["auth"] == {"kind": "none"}

    def test_it_shows_every_key_of_each_kind_of_target_with_the_kinds_own_default(self) -> None:
        for kind, target in (
            (ModelDbV2Settings, self.document["target"]),
            (ModelDbV1Settings, self.other_targets[0]["target"]),
        ):
            assert list(target) == list(kind.model_fields)
            for name, field in kind.model_fields.items():
                if not field.is_required() and name != "auth":
                    assert target[name] == field.get_default(call_default_factory=True), name

    def test_it_explains_every_key_in_the_words_of_its_description(self) -> None:
        comments = re.findall(r"^ *#[# ]*(.*)$", self.text, re.MULTILINE)
        text = " ".join(" ".join(comments).split())
        fields = [field for fields in setting_keys().fields.values() for field in fields]
        for field in fields + [field for _, field in fields_of(Settings)]:
            assert field.description
            assert " ".join(field.description.split()) in text

    def test_every_kind_of_login_in_it_loads(self, here: Loader) -> None:
        kinds = [here.v2({"target": login}).auth.kind for login in self.logins]
        assert kinds == ["basic", "bearer", "verta"]

    def test_every_other_target_in_it_loads(self, here: Loader) -> None:
        targets = [
            load_settings(here.file(yaml.safe_dump(self.document | other)), {}, here.secrets).target
            for other in self.other_targets
        ]
        assert targets == [ModelDbV1Settings(kind="modeldb-v1", host="modeldb")]
