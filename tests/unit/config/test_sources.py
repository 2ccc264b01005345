"""The sources of the configuration, their precedence and the problems that they report."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config.sources import ConfigError, load_settings
from daemon.errors import SetupFault
from daemon.targets.http.auth import BasicAuth, BearerAuth
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.plugins import PlugIn
from tests.support.config_loader import EXAMPLE, QUEUE_URL, SECRET, TARGET_URL, Loader


class TestLayers:
    def test_the_shortest_useful_configuration_is_two_urls(self, loader: Loader) -> None:
        settings = loader.load(f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{url: '{TARGET_URL}'}}")
        assert settings.queue.url == QUEUE_URL
        assert settings.target == ModelDbV2Settings(url=TARGET_URL)
        assert (settings.queue.wait_seconds, settings.shutdown.grace_seconds) == (20, 25)

    def test_variables_alone_are_enough(self, loader: Loader) -> None:
        environ = {"MODELDB_SYNC_QUEUE__URL": QUEUE_URL, "MODELDB_SYNC_TARGET__URL": TARGET_URL}
        assert load_settings(None, environ, loader.secrets, loader.default) == loader.load()

    def test_secret_files_go_over_the_file_and_variables_over_both(self, loader: Loader) -> None:
        loader.secret("queue__pollers", "3\n")
        loader.secret("queue__wait_seconds", "3")
        settings = loader.load(
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

    def test_which_file_is_read(self, loader: Loader) -> None:
        def text(port: int) -> str:
            required = f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{url: '{TARGET_URL}'}}"
            return f"http: {{port: {port}}}\n{required}"

        given, named = loader.file(text(1), "given.yaml"), loader.file(text(2), "named.yaml")
        loader.file(text(3), "etc/config.yaml")
        variable = {"MODELDB_SYNC_CONFIG": str(named)}
        assert load_settings(given, variable, loader.secrets, loader.default).http.port == 1
        assert load_settings(None, variable, loader.secrets, loader.default).http.port == 2
        assert (
            load_settings(
                None, {"MODELDB_SYNC_CONFIG": ""}, loader.secrets, loader.default
            ).http.port
            == 3
        )
        assert load_settings(None, {}, loader.secrets, loader.default).http.port == 3

    def test_variables_and_nested_keys_in_any_case(self, loader: Loader) -> None:
        settings = loader.load(
            queue__Retry__initial_seconds="7",
            TARGET__AUTH__KIND="bearer",
            Target__Auth__Token=SECRET,
        )
        assert settings.queue.retry.initial_seconds == 7
        assert isinstance(settings.target, ModelDbV2Settings)
        assert isinstance(settings.target.auth, BearerAuth)
        assert settings.target.auth.token.get_secret_value() == SECRET

    def test_variables_without_two_underscores_are_somebody_elses(self, loader: Loader) -> None:
        loader.load(
            PORT="tcp://10.0.0.1:80",
            SERVICE_HOST="10.0.0.1",
            PORT_8080_TCP_ADDR="10.0.0.1",
            QUEUE="x",
        )
        environ = {"OTHER__KEY": "x", "MODELDB__QUEUE": "x", "PATH": "/bin"}
        load_settings(EXAMPLE, environ, loader.secrets, loader.default)

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
        self, loader: Loader, variable: str, said: str
    ) -> None:
        problem = loader.problem(**{variable: SECRET})
        assert problem.startswith(said)
        assert problem.endswith(f"(variable MODELDB_SYNC_{variable})")
        assert SECRET not in problem

    def test_a_variable_for_a_whole_section_is_told_the_keys(self, loader: Loader) -> None:
        assert loader.problem(QUEUE__RETRY="5") == (
            "queue.retry: has keys of its own; set them one by one, like "
            "MODELDB_SYNC_QUEUE__RETRY__INITIAL_SECONDS (variable MODELDB_SYNC_QUEUE__RETRY)"
        )

    def test_two_variables_that_differ_in_case_only(self, loader: Loader) -> None:
        problem = loader.problem(QUEUE__POLLERS="2", queue__pollers="3")
        assert "is given twice, also as MODELDB_SYNC_QUEUE__POLLERS" in problem

    def test_an_empty_variable_is_as_if_not_set_where_the_key_may_be_null(
        self, loader: Loader
    ) -> None:
        settings = loader.load(
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
    def test_an_empty_variable_is_an_error_elsewhere(self, loader: Loader, variable: str) -> None:
        assert f"(variable MODELDB_SYNC_{variable})" in loader.problem(**{variable: ""})

    @pytest.mark.parametrize(
        "text",
        [
            "Completed,Failed",
            "Completed, Failed",
            '["Completed", "Failed"]',
            ' ["Completed","Failed"]',
        ],
    )
    def test_lists_in_variables(self, loader: Loader, text: str) -> None:
        assert loader.load(JOBS__STATUSES=text).jobs.statuses == ("Completed", "Failed")

    @pytest.mark.parametrize("text", ["[", '["a"', "[" * 100_000])
    def test_a_list_that_is_no_json(self, loader: Loader, text: str) -> None:
        assert loader.problem(JOBS__REDACT=text).startswith(
            "jobs.redact: must be a JSON list, or values separated by commas"
        )

    def test_redaction_is_turned_off_only_on_purpose(self, loader: Loader) -> None:
        assert loader.load(JOBS__REDACT="[]").jobs.redact == ()

    def test_null_and_nothing_are_the_default(self, loader: Loader) -> None:
        settings = loader.load(
            f"queue:\n  url: {QUEUE_URL}\n  pollers:\n  retry:\ntarget:\n  url: {TARGET_URL}\n  "
            "auth:\n  headers:\nlog:\naws: null\n"
        )
        assert settings == loader.load()

    def test_everything_wrong_is_said_at_once(self, loader: Loader) -> None:
        problems = loader.problems(
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
    def test_a_line_feed_at_the_end_is_no_part_of_a_secret(self, loader: Loader) -> None:
        loader.secret("target__auth__kind", "basic")
        loader.secret("target__auth__username", "modeldb\r\n")
        loader.secret("target__auth__password", f" {SECRET} \n")
        auth = loader.v2().auth
        assert isinstance(auth, BasicAuth)
        assert (auth.username, auth.password.get_secret_value()) == ("modeldb", f" {SECRET} ")

    def test_other_entries_are_ignored(self, loader: Loader) -> None:
        loader.secret("database_password", SECRET)
        loader.secret("queue__unknown", SECRET)
        loader.secret("other__key", SECRET)
        loader.secret("queue__retry", SECRET)
        loader.secret("..data__x", SECRET)
        (loader.secrets / "queue__pollers").mkdir()
        (loader.secrets / "kubernetes.io").mkdir()
        assert loader.load() == load_settings(
            loader.root / "config.yaml", {}, loader.root / "missing", loader.default
        )

    def test_a_file_instead_of_the_directory_is_ignored(self, loader: Loader) -> None:
        loader.secrets.write_text("x")
        assert loader.load().queue.pollers == 1

    def test_a_bad_value_names_the_file_and_not_the_secret(self, loader: Loader) -> None:
        loader.secret("target__auth__kind", "bearer")
        loader.secret("target__auth__token", f"Bearer {SECRET}")
        assert loader.problem() == (
            "target.auth.token: must be visible ASCII characters without spaces (secret file "
            f"{loader.secrets}/target__auth__token)"
        )

    def test_a_file_that_is_no_text(self, loader: Loader) -> None:
        loader.secrets.mkdir()
        (loader.secrets / "target__auth__token").write_bytes(b"\xff\xfe")
        assert "is not UTF-8 text (secret file" in loader.problem()

    def test_a_file_that_may_not_be_read(
        self, loader: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loader.secret("queue__pollers", "3")
        loader.load()

        def denied(path: Path, **_: str) -> str:
            if path.parent == loader.secrets:
                raise PermissionError(13, "Permission denied", str(path))
            return path.read_bytes().decode()

        monkeypatch.setattr(Path, "read_text", denied)
        problem = loader.problem()
        assert (
            problem == f"queue.pollers: cannot be read: Permission denied (secret file "
            f"{loader.secrets}/queue__pollers)"
        )

    def test_a_directory_that_may_not_be_read(
        self, loader: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(self: Path) -> list[Path]:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "iterdir", denied)
        assert (
            loader.problem()
            == f"directory of secret files {loader.secrets}: cannot be read: Permission denied"
        )

    def test_headers_one_by_one(self, loader: Loader) -> None:
        loader.secret("target__headers__X-Api-Key", SECRET)
        headers = loader.v2({"target": {"headers": {"X-API-KEY": "old", "X-Other": "1"}}}).headers
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
    def test_an_unusable_file_is_one_line(
        self, loader: Loader, text: str | bytes, said: str
    ) -> None:
        assert loader.problem(text).startswith(
            f"configuration file {loader.root}/config.yaml: {said}"
        )

    @pytest.mark.parametrize("value", [f"*{SECRET}", f"!{SECRET} x", f"!x!{SECRET} x"])
    def test_a_secret_taken_for_an_alias_or_a_tag_is_not_repeated(
        self, loader: Loader, value: str
    ) -> None:
        problem = loader.problem(f"target:\n  auth:\n    token: {value}\n")
        assert "is not valid YAML at line 3" in problem
        assert SECRET not in problem

    def test_a_missing_file_and_a_directory(self, loader: Loader) -> None:
        for path, said in (
            (loader.root / "none.yaml", "No such file or directory"),
            (loader.root, "Is a directory"),
        ):
            with pytest.raises(ConfigError) as refused:
                load_settings(path, {}, loader.secrets, loader.default)
            assert str(refused.value) == f"configuration file {path}: cannot be read: {said}"

    def test_an_empty_file_leaves_the_required_keys(self, loader: Loader) -> None:
        for text in ("", "# nothing\n", "---\n"):
            assert loader.problems(text) == [
                "queue.url: is required; set it in the file or as variable MODELDB_SYNC_QUEUE__URL",
                (
                    "target.url: is required; set it in the file or as variable "
                    "MODELDB_SYNC_TARGET__URL"
                ),
            ]

    def test_a_key_given_twice(self, loader: Loader) -> None:
        problem = loader.problem(
            f"queue:\n  url: {QUEUE_URL}\n  pollers: 1\n  pollers: 2\ntarget: "
            f"{{url: '{TARGET_URL}'}}\n"
        )
        assert (
            problem
            == f"queue.pollers: is given twice (file {loader.root}/config.yaml, line 3 and line 4)"
        )

    def test_a_section_given_twice(self, loader: Loader) -> None:
        problems = loader.problems(
            f"queue: {{pollers: 2}}\ntarget: {{url: '{TARGET_URL}'}}\nqueue: "
            f"{{url: '{QUEUE_URL}'}}\n"
        )
        assert problems == [
            f"queue: is given twice (file {loader.root}/config.yaml, line 1 and line 3)"
        ]

    def test_unknown_keys_say_the_line_and_the_nearest_key_and_no_value(
        self, loader: Loader
    ) -> None:
        problems = loader.problems(
            f"queue:\n  url: {QUEUE_URL}\n  poler: {SECRET}\ntarget:\n  url: {TARGET_URL}\n  "
            f"auth: {{pasword: {SECRET}}}\n"
            f"chekpoint: {{path: /x}}\n1: 2\n"
        )
        source = f"(file {loader.root}/config.yaml, line"
        assert problems == [
            f"queue.poler: is an unknown key; did you mean queue.pollers? {source} 3)",
            (
                "target.auth.pasword: is an unknown key; did you mean target.auth.password? "
                f"{source} 6)"
            ),
            f"chekpoint: is an unknown key; did you mean checkpoint? {source} 7)",
            (
                "1: is an unknown key; sections are aws, queue, jobs, accounts, reconcile, target, "
                f"checkpoint, http, log, shutdown {source} 8)"
            ),
        ]

    def test_sections_that_are_no_mappings(self, loader: Loader) -> None:
        problems = loader.problems(
            {"log": "info", "target": {"auth": f"Bearer {SECRET}", "headers": SECRET}}
        )
        assert [problem.split(" (")[0] for problem in problems] == [
            "log: must be a mapping of keys",
            "target.auth: must be a mapping of keys",
            "target.headers: must be a mapping of keys",
        ]
        assert SECRET not in str(problems)

    def test_anchors_and_merges_are_read(self, loader: Loader) -> None:
        settings = loader.load(
            f"queue:\n  url: {QUEUE_URL}\n  retry: &r {{initial_seconds: 5, max_seconds: 6}}\n"
            f"target: {{url: &u '{TARGET_URL}', ui_url: *u}}\n"
        )
        assert settings.queue.retry.max_seconds == 6
        assert settings.target == ModelDbV2Settings(url=TARGET_URL, ui_url=TARGET_URL)
        merged = loader.load(
            # own keys go over merged ones
            f"target: &t {{url: '{TARGET_URL}'}}\nqueue:\n  <<: *t\n  url: {QUEUE_URL}\n"
        )
        assert merged.queue.url == QUEUE_URL

    def test_a_file_that_contains_itself_ends(self, loader: Loader) -> None:
        problems = loader.problems("queue: &q\n  retry: *q\n  url: *q\njobs: {redact: &r [*r]}\n")
        assert problems[0].startswith("queue.retry.retry: is an unknown key")
        assert any(problem.startswith("jobs.redact[0]: must be") for problem in problems)

    def test_where_a_bad_value_stands(self, loader: Loader) -> None:
        problem = loader.problem(
            f"queue:\n  url: {QUEUE_URL}\n  pollers: 11\ntarget: {{url: '{TARGET_URL}'}}\n"
        )
        assert (
            problem == f"queue.pollers = 11: must be a whole number from 1 to 10 (file "
            f"{loader.root}/config.yaml, line 3)"
        )


@pytest.mark.parametrize(
    ("name", "word", "kind"),
    [
        ("toy", "", "toy"),
        ("toy", "duck", "duck"),
        ("toy", "duck", "toy"),
        ("modeldb-v1", "", "modeldb-v1"),
        ("modeldb-v2", "", None),
    ],
)
def test_the_kind_of_a_plug_in_that_cannot_be_used_is_all_that_is_said(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, name: str, word: str, kind: str | None
) -> None:
    broken = PlugIn(name, "pack", "1.2", "pack:KIND", fault="is broken", word=word)
    monkeypatch.setattr("daemon.targets.registry.PLUG_INS", [broken])
    target = {"file": "/tmp/runs"} | ({} if kind is None else {"kind": kind})
    problem = loader.problem({"target": target, "log": {"colour": "red"}})
    assert f"target.kind = '{kind or name}': the plug-in pack 1.2 (entry point" in problem
    assert "is broken" in problem


def test_a_plug_in_that_cannot_be_used_is_none_of_the_other_kinds_business(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = PlugIn("toy", "pack", "1.2", "pack:KIND", fault="is broken", word="duck")
    monkeypatch.setattr("daemon.targets.registry.PLUG_INS", [broken])
    assert loader.load().target.kind == "modeldb-v2"
