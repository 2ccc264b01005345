"""docker-compose.yml itself, before any container runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon.config.settings import SqliteSettings
from daemon.config.sources import ConfigError, load_settings
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings

if TYPE_CHECKING:
    from daemon.config.settings import Settings

TOP = Path(__file__).parents[2]
TEXT = (TOP / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
DAEMON = SERVICES["daemon"]
KINDS = ("modeldb-v2", "modeldb-v1", "mlflow")
TARGET_TEXTS = {kind: (TOP / f"deploy/compose/target-{kind}.yml").read_text() for kind in KINDS}


def compose_program() -> list[str]:
    """Compose itself, as a program or as Docker's plugin; its ``config`` needs no engine."""
    if alone := shutil.which("docker-compose"):
        return [alone]
    docker = shutil.which("docker")
    plugged = (
        docker
        and subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
        == 0
    )
    return [docker, "compose"] if docker and plugged else []


COMPOSE = compose_program()

QUEUE = {"MODELDB_SYNC_QUEUE__URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"}


def variables_in(file: str) -> dict[str, str]:
    """A file for ``--env-file``."""
    return dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", (TOP / file).read_text(), re.MULTILINE))


def settings_with(given: dict[str, str]) -> Settings:
    """The daemon's settings from the variables that Compose sets."""

    def value(text: str) -> str:
        while found := re.search(r"\$\{(\w+):?[-?]([^${}]*)}", text):
            text = text[: found.start()] + given.get(found[1], found[2]) + text[found.end() :]
        return text

    file, service = value(DAEMON["extends"]["file"]), DAEMON["extends"]["service"]
    of_target = yaml.safe_load((TOP / file).read_text())["services"][service]
    assert set(of_target) == {"environment"}
    variables = {**of_target["environment"], **DAEMON["environment"]}
    return load_settings(
        None, {name: value(str(text)) for name, text in variables.items() if text is not None}
    )


def settings_of_demo() -> Settings:
    return settings_with(variables_in("deploy/compose/demo.env"))


def test_the_daemon_understands_what_compose_gives_it() -> None:
    settings = settings_of_demo()
    assert settings.queue.url == "http://demo-aws:5000/123456789012/modeldb-sync"
    assert isinstance(settings.target, ModelDbV2Settings)
    assert settings.target.url == "http://modeldb-proxy:8080/v1"
    assert settings.target.ui_url == "http://localhost:3000"


def test_for_modeldb_v1_it_is_told_nothing_of_v2() -> None:
    v1 = QUEUE | variables_in("deploy/compose/modeldb-v1.env")
    own = settings_with(
        v1 | {"MODELDB_SYNC_TARGET__URL": "http://left-over-in-dot-env:8080/v1"}
    ).target
    assert isinstance(own, ModelDbV1Settings)
    assert (own.host, own.port, own.metadata_store) == ("modeldb-v1-backend", 6543, True)
    assert own.host in SERVICES
    there = settings_with(
        v1
        | {
            "MODELDB_SYNC_TARGET__HOST": "modeldb.example.org",
            "MODELDB_SYNC_TARGET__PORT": "16543",
            "MODELDB_SYNC_TARGET__METADATA_STORE": "false",
        }
    ).target
    assert isinstance(there, ModelDbV1Settings)
    assert (there.host, there.port, there.metadata_store) == ("modeldb.example.org", 16543, False)


def test_for_mlflow_it_is_told_nothing_of_modeldb() -> None:
    mlflow = QUEUE | variables_in("deploy/compose/mlflow.env")
    left_over = {
        "MODELDB_SYNC_TARGET__URL": "http://left-over-in-dot-env:8080/v1",
        "MODELDB_SYNC_TARGET__HOST": "left-over-too",
    }
    own = settings_with(mlflow | left_over).target
    assert isinstance(own, MlflowSettings)
    assert (own.base_url, own.ui_url) == ("http://mlflow:5000", "http://localhost:5001")
    managed = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/churn"
    there = settings_with(
        mlflow
        | {
            "MODELDB_SYNC_TARGET__TRACKING_URI": managed,
            "MODELDB_SYNC_TARGET__UI_URL": "",
        }
    ).target
    assert isinstance(there, MlflowSettings)
    assert (there.tracking_uri, there.ui_url) == (managed, None)


def test_mlflow_takes_the_names_by_which_it_is_asked() -> None:
    """It refuses every request whose Host it was not told, the port included."""
    (hosts,) = [
        option.partition("=")[2]
        for option in SERVICES["mlflow"]["command"]
        if option.startswith("--allowed-hosts=")
    ]
    (target,) = re.findall(r"TRACKING_URI:-http://([^}]+)}", TARGET_TEXTS["mlflow"])
    port = "${MLFLOW_UI_PORT:-5001}"
    assert hosts.split(",") == [target, f"localhost:{port}", f"127.0.0.1:{port}"]
    assert SERVICES["mlflow"]["ports"] == [f"${{BIND_ADDRESS:-127.0.0.1}}:{port}:5000"]


def test_the_kinds_keys_do_not_go_together() -> None:
    """Why there is a file for each: the keys of both in one service would be no configuration at
    all.
    """
    both = {
        name: "x"
        for text in TARGET_TEXTS.values()
        for name in yaml.safe_load(text)["services"]["target"]["environment"]
    }
    with pytest.raises(ConfigError, match="does not go with this"):
        load_settings(None, QUEUE | both | {"MODELDB_SYNC_TARGET__KIND": "modeldb-v1"})


def test_nobody_but_its_own_pages_and_the_daemon_reaches_modeldb_v1() -> None:
    """It has no authentication, and a second writer corrupts its rows."""
    v1 = {
        name: given for name, given in SERVICES.items() if given.get("profiles") == ["modeldb-v1"]
    }
    assert set(v1) == {"modeldb-v1-frontend", "modeldb-v1-backend", "modeldb-v1-mongo"}
    assert {name for name, given in v1.items() if "ports" in given} == {"modeldb-v1-frontend"}
    assert v1["modeldb-v1-mongo"]["networks"] == ["modeldb-v1"]
    assert yaml.safe_load(TEXT)["networks"]["modeldb-v1"] == {"internal": True}
    assert {
        name for name, given in SERVICES.items() if "modeldb-v1" in given.get("networks", [])
    } == {
        "modeldb-v1-backend",
        "modeldb-v1-mongo",
    }


def test_modeldb_v1_brings_what_it_needs_with_it() -> None:
    assert SERVICES["modeldb-v1-frontend"]["depends_on"] == ["modeldb-v1-backend"]
    assert SERVICES["modeldb-v1-backend"]["depends_on"] == ["modeldb-v1-mongo"]
    assert SERVICES["modeldb-v1-backend"]["environment"]["MONGODB_HOST"] == "modeldb-v1-mongo"
    assert SERVICES["modeldb-v1-frontend"]["environment"]["BACKEND_HOST"] == "modeldb-v1-backend"


def test_it_is_stopped_no_earlier_than_it_needs() -> None:
    assert (
        int(DAEMON["stop_grace_period"].removesuffix("s"))
        > settings_of_demo().shutdown.grace_seconds
    )


def test_it_can_be_started_alone() -> None:
    assert "depends_on" not in DAEMON
    assert "profiles" not in DAEMON


@pytest.mark.parametrize("service", ["daemon", "demo-jobs"])
def test_it_may_do_nothing_but_its_work(service: str) -> None:
    given = SERVICES[service]
    assert (given["read_only"], given["cap_drop"], given["security_opt"]) == (
        True,
        ["ALL"],
        ["no-new-privileges:true"],
    )
    assert not {"privileged", "user", "cap_add"} & set(given)


def test_the_demo_runs_in_one_image_which_has_boto3() -> None:
    assert SERVICES["demo-jobs"]["image"] == SERVICES["demo-aws"]["image"]


def test_its_state_is_a_volume() -> None:
    checkpoint = settings_of_demo().checkpoint
    assert isinstance(checkpoint, SqliteSettings)
    assert f"checkpoint:{checkpoint.path.parent}" in DAEMON["volumes"]


def test_every_image_of_others_names_a_version() -> None:
    foreign = {given["image"] for given in SERVICES.values() if "build" not in given}
    assert foreign
    for image in foreign:
        assert re.search(r":(v|kf)?\d[\w.]*$", image), f"{image} is another one tomorrow"
    assert {
        given["image"].rpartition(":")[2]
        for name, given in SERVICES.items()
        if "vertaai" in given["image"]
    } == {"2.0.8.1"}


def test_no_port_is_open_to_others_unless_somebody_says_so() -> None:
    published = [port for given in SERVICES.values() for port in given.get("ports", [])]
    assert published
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in published)
    defaults = re.findall(r"_PORT:-(\d+)}", "\n".join(published))
    assert len(defaults) == len(set(defaults)) == len(published)


def test_what_ends_with_status_0_on_failure_is_restarted_all_the_same() -> None:
    lasting = {name: given for name, given in SERVICES.items() if not name.startswith("demo-")}
    assert {given.get("restart") for given in lasting.values()} == {"unless-stopped"}


def test_nothing_that_lasts_takes_all_of_the_memory() -> None:
    lasting = {name for name, given in SERVICES.items() if not given.get("profiles")}
    assert {name for name in lasting if "mem_limit" not in SERVICES[name]} == set()


def test_no_log_grows_without_end() -> None:
    for name, given in SERVICES.items():
        assert given["logging"]["driver"] == "json-file", name
        assert set(given["logging"]["options"]) == {"max-size", "max-file"}, name


def test_what_must_last_lies_in_a_named_volume() -> None:
    named = set(yaml.safe_load(TEXT)["volumes"])
    used = {
        volume.partition(":")[0]
        for given in SERVICES.values()
        for volume in given.get("volumes", [])
        if volume[0] not in "./"
    }
    assert used == named


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [
        volume.partition(":")[0]
        for given in SERVICES.values()
        for volume in given.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert [path for path in mounted if not (TOP / path).exists()] == []


def test_every_variable_is_explained() -> None:
    texts = "\n".join([TEXT, *TARGET_TEXTS.values()])
    asked = set(re.findall(r"\$\{([A-Z_0-9]+)", texts)) | {
        name for name, text in DAEMON["environment"].items() if text is None
    }
    explained = set(
        re.findall(r"^#?([A-Z_0-9]+)=", (TOP / ".env.example").read_text(), re.MULTILINE)
    )
    assert asked - explained == {"AWS_ENDPOINT_URL", "DEMO_AWS_PORT"}, (
        "these two are the demo's own"
    )
    assert explained <= asked


def test_modeldb_is_configured_as_it_must_be() -> None:
    config = yaml.safe_load((TOP / "deploy/compose/modeldb/config.yaml").read_text())
    assert config["telemetry"]["opt_in"] is False
    assert config["feature-flag"]["store-client-creation-timestamp"] is True
    assert "authService" not in config
    database = config["database"]["RdbConfiguration"]
    given = SERVICES["modeldb-postgres"]["environment"]
    # ModelDB appends the name of the database itself
    assert database["RdbUrl"] == "jdbc:postgresql://modeldb-postgres:5432"
    assert [database[key] for key in ("RdbDatabaseName", "RdbUsername", "RdbPassword")] == [
        given[key] for key in ("POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")
    ]
    backend = SERVICES["modeldb-backend"]
    assert (
        f"modeldb-artifacts:{config['artifactStoreConfig']['NFS']['nfsRootPath']}"
        in backend["volumes"]
    )
    for name in ("modeldb-proxy", "modeldb-graphql"):
        assert (
            SERVICES[name]["environment"]["MDB_ADDRESS"]
            == f"modeldb-backend:{config['grpcServer']['port']}"
        )


def test_only_the_backend_reaches_the_database() -> None:
    assert SERVICES["modeldb-postgres"]["networks"] == ["database"]
    assert {
        name for name, given in SERVICES.items() if "database" in given.get("networks", [])
    } == {
        "modeldb-postgres",
        "modeldb-backend",
    }
    assert "ports" not in SERVICES["modeldb-postgres"]


@pytest.mark.skipif(
    not COMPOSE,
    reason="needs docker compose, or docker-compose (github.com/docker/compose/v2) on PATH",
)
class TestComposeItself:
    def config(
        self, *options: str, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        # not a developer's own .env
        command = [*COMPOSE, "--env-file", os.devnull, *options, "config", "--format", "json"]
        return subprocess.run(
            command,
            cwd=TOP,
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @pytest.mark.parametrize(
        "profiles",
        [
            [],
            ["demo"],
            ["monitoring"],
            ["demo", "monitoring"],
            ["modeldb-v1"],
            ["modeldb-v1", "monitoring"],
            ["mlflow"],
        ],
        ids=" and ".join,
    )
    def test_it_takes_every_profile(self, profiles: list[str]) -> None:
        done = self.config(*[f"--profile={profile}" for profile in profiles], environment=QUEUE)
        assert (done.returncode, done.stderr) == (0, "")
        expected = {
            name
            for name, given in SERVICES.items()
            if "profiles" not in given or set(given["profiles"]) & set(profiles)
        }
        assert set(json.loads(done.stdout)["services"]) == expected

    def test_without_a_queue_it_says_what_to_do(self) -> None:
        done = self.config(environment={})
        assert done.returncode != 0
        assert "copy .env.example to .env" in done.stderr

    def test_variables_of_the_shell_reach_the_daemon_and_others_do_not(self) -> None:
        done = self.config(
            environment=QUEUE
            | {"AWS_REGION": "eu-west-1", "MODELDB_SYNC_TARGET__URL": "http://elsewhere:8080/v1"}
        )
        given = json.loads(done.stdout)["services"]["daemon"]["environment"]
        assert given["AWS_REGION"] == "eu-west-1"
        assert given["AWS_SECRET_ACCESS_KEY"] is None
        assert given["MODELDB_SYNC_TARGET__URL"] == "http://elsewhere:8080/v1"

    def test_with_the_variables_of_modeldb_v1_the_daemon_gets_a_host_and_no_url(self) -> None:
        done = self.config(
            "--env-file=deploy/compose/modeldb-v1.env",
            environment=QUEUE | {"MODELDB_SYNC_TARGET__URL": "http://v2:8080/v1"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        services = json.loads(done.stdout)["services"]
        given = services["daemon"]["environment"]
        of_target = {name: value for name, value in given.items() if "_TARGET__" in name}
        assert of_target == {
            "MODELDB_SYNC_TARGET__KIND": "modeldb-v1",
            "MODELDB_SYNC_TARGET__HOST": "modeldb-v1-backend",
            "MODELDB_SYNC_TARGET__PORT": "6543",
            "MODELDB_SYNC_TARGET__METADATA_STORE": "true",
        }
        assert "modeldb-v1-backend" in services
        target = load_settings(
            None, {name: value for name, value in given.items() if value is not None}
        ).target
        assert target.kind == "modeldb-v1"

    def test_with_the_variables_of_mlflow_the_daemon_gets_a_tracking_uri_and_no_url(self) -> None:
        done = self.config(
            "--env-file=deploy/compose/mlflow.env",
            environment=QUEUE | {"MODELDB_SYNC_TARGET__URL": "http://v2:8080/v1"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        services = json.loads(done.stdout)["services"]
        given = services["daemon"]["environment"]
        assert {name: value for name, value in given.items() if "_TARGET__" in name} == {
            "MODELDB_SYNC_TARGET__KIND": "mlflow",
            "MODELDB_SYNC_TARGET__TRACKING_URI": "http://mlflow:5000",
            "MODELDB_SYNC_TARGET__UI_URL": "http://localhost:5001",
        }
        assert (
            "--allowed-hosts=mlflow:5000,localhost:5001,127.0.0.1:5001"
            in (services["mlflow"]["command"])
        )

    def test_a_kind_that_there_is_not_is_told_by_its_name(self) -> None:
        done = self.config(environment=QUEUE | {"MODELDB_SYNC_TARGET__KIND": "modeldb-v3"})
        assert done.returncode != 0
        assert "target-modeldb-v3.yml" in done.stderr
