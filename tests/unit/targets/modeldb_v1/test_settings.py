"""The configuration of the target kind ``modeldb-v1``, and what tells the kinds of target apart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon.config.settings import Settings, secret_values, settings_for_log
from daemon.config.sources import load_settings
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from tests.support.config_loader import QUEUE_URL, SECRET, TARGET_URL, Loader

if TYPE_CHECKING:
    from pathlib import Path

NOT_OF_THIS_KIND = "does not go with this target.kind"


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path, {"kind": "modeldb-v1", "host": "modeldb"})


REFUSED: list[tuple[str, Any, str]] = [
    ("host", "", "= '': must be a host name or an IP address, without scheme, port and path"),
    ("host", "http://modeldb", "= 'http://modeldb': must be a host name or an IP address"),
    ("host", "modeldb:6543", "must be a host name or an IP address"),
    ("host", "modeldb/v1", "must be a host name or an IP address"),
    ("host", "mod el", "must be a host name or an IP address"),
    ("host", "modeldb\n", "must be a host name or an IP address"),
    ("host", "mödeldb", "must be a host name or an IP address"),
    ("host", ".", "must be a host name or an IP address"),
    ("host", "a..b", "must be a host name or an IP address"),
    ("host", "-a", "must be a host name or an IP address"),
    ("host", "a-.example.org", "must be a host name or an IP address"),
    ("host", "a" * 64, "must be a host name or an IP address"),
    ("host", "a." * 126 + "bc", "must be a host name or an IP address"),
    ("host", "[::1", "must be a host name or an IP address"),
    ("host", "::1]", "must be a host name or an IP address"),
    ("host", "[::1]:6543", "must be a host name or an IP address"),
    ("host", "[modeldb]", "must be a host name or an IP address"),
    ("host", "[10.0.0.1]", "must be a host name or an IP address"),
    ("host", "fe80::1%a b", "must be a host name or an IP address"),
    ("host", "::g", "must be a host name or an IP address"),
    ("host", f"me:{SECRET}@modeldb", "target.host: must be a host name or an IP address"),
    ("host", f"modeldb?{SECRET}", "target.host: must be a host name or an IP address"),
    ("host", 5, "= 5: must be text (in YAML: put it in quotes)"),
    ("port", 0, "= 0: must be a whole number from 1 to 65535"),
    ("port", 65_536, "must be a whole number from 1 to 65535"),
    ("port", "thrift", "= 'thrift': must be a whole number from 1 to 65535"),
    ("port", True, "must be a number, not true or false"),
    ("tls", "maybe", "= 'maybe': must be true or false"),
    ("tls", [1], "target.tls: must be true or false"),
    ("ca_file", __file__, "must not be set unless target.tls is true"),
    ("server_id", "", "must be 1 to 255 visible ASCII characters without spaces"),
    ("server_id", "my server", "must be 1 to 255 visible ASCII characters without spaces"),
    ("server_id", "x" * 256, "must be 1 to 255 visible ASCII characters without spaces"),
    ("metadata_store", "mongo", "= 'mongo': must be true or false"),
    ("timeout_seconds", 30.9, "= 30.9: must be a number from 31 to 300"),
    ("timeout_seconds", 301, "must be a number from 31 to 300"),
    ("settle_seconds", 0.9, "must be a number from 1 to 3600"),
    ("settle_seconds", 3601, "must be a number from 1 to 3600"),
    ("url", TARGET_URL, NOT_OF_THIS_KIND),
    ("url", f"http://me:{SECRET}@modeldb", f"target.url: {NOT_OF_THIS_KIND}"),
    ("auth", {"kind": "bearer", "token": SECRET}, f"target.auth: {NOT_OF_THIS_KIND}"),
    ("headers", {"X-Key": SECRET}, f"target.headers: {NOT_OF_THIS_KIND}"),
    ("max_concurrency", 4, NOT_OF_THIS_KIND),
    ("ui_url", "http://h:3000", NOT_OF_THIS_KIND),
    ("hots", "modeldb", "target.hots: is an unknown key; did you mean target.host?"),
]


def test_refused(loader: Loader, subtests: pytest.Subtests) -> None:
    for key, value, said in REFUSED:
        with subtests.test(f"{key} = {value!r:.40}"):
            problem = loader.problem({"target": {key: value}})
            assert problem.startswith(f"target.{key}")
            assert said in problem
            assert SECRET not in problem
            assert f"(file {loader.root}/config.yaml, line " in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("host", "modeldb.example.org."),
        ("host", "model_db-1"),
        ("host", "a" * 63),
        ("host", "10.0.0.1"),
        ("host", "fe80::1%eth0.100"),
        ("port", 1),
        ("port", 65_535),
        ("tls", True),
        ("server_id", "modeldb/production"),
        ("metadata_store", False),
        ("timeout_seconds", 31),
        ("timeout_seconds", 300),
        ("settle_seconds", 1.5),
        ("settle_seconds", 3600),
    ],
)
def test_allowed(loader: Loader, key: str, value: object) -> None:
    assert getattr(loader.v1({"target": {key: value}}), key) == value


def test_the_shortest_configuration_is_a_kind_and_a_host(loader: Loader) -> None:
    target = loader.v1(
        f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{kind: modeldb-v1, host: modeldb}}"
    )
    assert (target.port, target.tls, target.ca_file, target.server_id) == (6543, False, None, None)
    assert (target.metadata_store, target.timeout_seconds, target.settle_seconds) == (True, 45, 5)


def test_variables_alone_are_enough(loader: Loader) -> None:
    environ = {
        "MODELDB_SYNC_QUEUE__URL": QUEUE_URL,
        "MODELDB_SYNC_TARGET__KIND": "modeldb-v1",
        "MODELDB_SYNC_TARGET__HOST": "modeldb",
        "MODELDB_SYNC_TARGET__PORT": "7000",
        "MODELDB_SYNC_TARGET__TLS": "true",
        "MODELDB_SYNC_TARGET__METADATA_STORE": "false",
        "MODELDB_SYNC_TARGET__SERVER_ID": "",
    }
    target = load_settings(None, environ, loader.secrets, loader.default).target
    assert target == ModelDbV1Settings(
        kind="modeldb-v1", host="modeldb", port=7000, tls=True, metadata_store=False
    )


def test_a_missing_host_is_asked_for(loader: Loader) -> None:
    assert loader.problem(f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{kind: modeldb-v1}}") == (
        "target.host: is required; set it in the file or as variable MODELDB_SYNC_TARGET__HOST"
    )


def test_a_v2_turned_into_v1_is_told_all_that_is_to_change(loader: Loader) -> None:
    auth = f"{{kind: basic, username: me, password: {SECRET}}}"
    target = f"target: {{kind: modeldb-v1, url: '{TARGET_URL}', auth: {auth}}}"
    problems = loader.problems(f"queue: {{url: '{QUEUE_URL}'}}\n{target}")
    assert [problem.partition(";")[0].partition(" (")[0] for problem in problems] == [
        "target.host: is required",
        f"target.url: {NOT_OF_THIS_KIND}",
        f"target.auth: {NOT_OF_THIS_KIND}",
    ]
    assert SECRET not in str(problems)


def test_a_key_of_the_other_kind_by_variable_names_the_variable(loader: Loader) -> None:
    assert (
        loader.problem(TARGET__AUTH__TOKEN=SECRET)
        == f"target.auth: {NOT_OF_THIS_KIND} (variable MODELDB_SYNC_TARGET__AUTH__TOKEN)"
    )


def test_a_host_without_the_kind_is_one_of_modeldb_v2(loader: Loader) -> None:
    problems = loader.problems(f"queue: {{url: '{QUEUE_URL}'}}\ntarget: {{host: modeldb}}")
    assert [problem.partition(" (")[0].partition(";")[0] for problem in problems] == [
        "target.url: is required",
        f"target.host: {NOT_OF_THIS_KIND}",
    ]


def test_bounds_are_those_of_the_configured_kind(loader: Loader) -> None:
    assert "= 20: must be a number from 31 to 300" in loader.problem(
        {"target": {"timeout_seconds": 20}}
    )
    v2 = Loader(loader.root)
    assert v2.v2({"target": {"timeout_seconds": 20}}).timeout_seconds == 20
    assert "= 9: must be a number from 10 to 300" in v2.problem({"target": {"timeout_seconds": 9}})


def test_an_authority_goes_with_tls(loader: Loader) -> None:
    pem = loader.file("x", "ca.pem")
    assert loader.v1({"target": {"tls": True, "ca_file": str(pem)}}).ca_file == pem
    missing = loader.problem({"target": {"tls": True, "ca_file": str(loader.root / "none.pem")}})
    assert missing.startswith(
        f"target.ca_file = '{loader.root}/none.pem': must be the path of an existing file"
    )


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("modeldb", "modeldb:6543"),
        ("10.0.0.1", "10.0.0.1:6543"),
        ("::1", "[::1]:6543"),
        ("[::1]", "[::1]:6543"),
        ("FD00:0:0::1", "[fd00::1]:6543"),
    ],
)
def test_address(loader: Loader, host: str, address: str) -> None:
    target = loader.v1({"target": {"host": host}})
    assert (target.address, target.single_writer.server_id) == (address, address)


def test_the_writer_lease_is_named_after_the_address_in_lower_case_or_as_configured(
    loader: Loader,
) -> None:
    target = loader.v1({"target": {"host": "ModelDB.Example.org", "port": 7000}})
    assert (target.address, target.single_writer.server_id) == (
        "ModelDB.Example.org:7000",
        "modeldb.example.org:7000",
    )
    assert loader.v1({"target": {"server_id": "Shared"}}).single_writer.server_id == "Shared"


def test_the_address_of_a_v2_is_its_url(loader: Loader) -> None:
    assert Loader(loader.root).v2().address == TARGET_URL
    assert (
        ModelDbV2Settings(url=TARGET_URL)
        .model_dump()
        .keys()
        .isdisjoint({"address", "single_writer"})
    )


def test_it_has_no_secrets_and_is_shown_whole(loader: Loader) -> None:
    settings = loader.load({"target": {"server_id": "shared"}})
    assert secret_values(settings) == ()
    assert json.loads(json.dumps(settings_for_log(settings)))["target"] == {
        "kind": "modeldb-v1",
        "host": "modeldb",
        "port": 6543,
        "tls": False,
        "ca_file": None,
        "server_id": "shared",
        "metadata_store": True,
        "timeout_seconds": 45,
        "settle_seconds": 5,
    }


def test_settings_made_in_code_need_no_kind_for_v2_and_take_one_for_v1() -> None:
    queue = {"url": QUEUE_URL}
    assert (
        Settings.model_validate({"queue": queue, "target": {"url": TARGET_URL}}).target.kind
        == "modeldb-v2"
    )
    v1 = ModelDbV1Settings(kind="modeldb-v1", host="h")
    assert Settings.model_validate({"queue": queue, "target": v1}).target == v1
