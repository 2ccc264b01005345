"""The values of the chart in ``deploy/helm``: the schema, the refusals, what the README says of
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon.config.keys import KeyIndex
from daemon.config.settings import Settings
from daemon.config.sources import ENV_PREFIX
from tests.deploy.helm_chart import CHART, NAMESPACE, RELEASE, helm, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.kubernetes_manifests import Manifest

OWN_VALUES: Manifest = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Manifest = json.loads((CHART / "values.schema.json").read_text())
MONITORING = CHART.parent / "monitoring"


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("alerts.yml", MONITORING / "alerts.yml"),
        ("dashboard.json", MONITORING / "grafana" / "dashboards" / "modeldb-sync.json"),
    ],
)
def test_what_a_chart_must_contain_itself_is_a_copy(copy: str, original: Path) -> None:
    """Not a link, which not every checkout and archive keeps."""
    file = CHART / "files" / copy
    assert not file.is_symlink()
    assert file.read_bytes() == original.read_bytes(), f"cp {original} {file}"


class TestValues:
    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"replica": 2}, "'replica' not allowed"),
            ({"image": {"name": "x"}}, "'name' not allowed"),
            ({"image": {"tag": 1.2}}, "at '/image/tag': got number, want string"),
            ({"image": {"repository": "registry/image:1.2"}}, "at '/image/repository'"),
            ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy'"),
            ({"config": {"qeue": {}}}, "at '/config': additional properties 'qeue' not allowed"),
            ({"config": "queue: {}"}, "at '/config': got string, want object"),
            ({"config": {"queue": {"url": "https://sqs/q.fifo"}}}, "at '/config/queue/url'"),
            ({"config": {"aws": {"account_id": 123456789012}}}, "at '/config/aws/account_id'"),
            ({"config": {"checkpoint": {"kind": "redis"}}}, "at '/config/checkpoint/kind'"),
            ({"replicas": "1"}, "at '/replicas': got string, want integer"),
            ({"replicas": -1}, "at '/replicas': minimum: got -1, want 0"),
            ({"persistence": {"size": "1 GB"}}, "at '/persistence/size'"),
            ({"persistence": {"accessMode": "ReadWriteMany"}}, "at '/persistence/accessMode'"),
            ({"podAnnotations": {"a": True}}, "at '/podAnnotations/a': got boolean, want string"),
            ({"resources": {"limit": {}}}, "'limit' not allowed"),
            ({"autoscaling": {"minReplicas": 0}}, "at '/autoscaling/minReplicas'"),
            ({"fullnameOverride": "Modeldb_Sync"}, "at '/fullnameOverride'"),
        ],
    )
    def test_the_schema_refuses_it_and_names_it(self, values: Manifest, said: str) -> None:
        assert said in refusal(values)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"replicas": 2}, "With checkpoint.kind sqlite only one replica may run"),
            ({"autoscaling": {"enabled": True}}, "With checkpoint.kind sqlite only one replica"),
            (
                {"config": {"checkpoint": {"kind": "dynamodb"}}, "replicas": 3},
                "3 replicas with up to 4 concurrent requests each are more than 8 in all",
            ),
            (
                {
                    "config": {"checkpoint": {"kind": "dynamodb"}},
                    "autoscaling": {"enabled": True, "maxReplicas": 3},
                },
                "3 replicas with up to 4 concurrent requests each are more than 8 in all",
            ),
            (
                {
                    "config": {
                        "checkpoint": {"kind": "dynamodb"},
                        "target": {"kind": "modeldb-v1", "host": "modeldb", "url": None},
                    },
                    "autoscaling": {"enabled": True},
                },
                "autoscaling.enabled does not help with target.kind modeldb-v1",
            ),
            (
                {
                    "config": {"checkpoint": {"kind": "dynamodb"}},
                    "autoscaling": {"enabled": True, "minReplicas": 3},
                },
                "autoscaling.maxReplicas must not be below autoscaling.minReplicas",
            ),
            (
                {
                    "config": {"checkpoint": {"kind": "dynamodb"}, "queue": None},
                    "autoscaling": {"enabled": True},
                },
                "autoscaling.enabled needs config.queue.url",
            ),
        ],
    )
    def test_what_cannot_work_is_refused_with_a_sentence(self, values: Manifest, said: str) -> None:
        assert said in refusal(values)

    def test_a_secret_in_the_configuration_is_refused_and_not_repeated(self) -> None:
        keys = KeyIndex(Settings, ENV_PREFIX)
        secrets = [key for key in keys.fields if keys.is_secret(key)]
        assert len(secrets) > 3
        for key in secrets:
            secret: Any = {"x-token": "made-up"} if keys.holds(key, Mapping) else "made-up"
            for part in reversed(key.split(".")):
                secret = {part: secret}
            said = refusal({"config": secret})
            assert f"config.{key} " in said
            assert f"entry {key.replace('.', '__')}" in said
            assert "made-up" not in said

    def test_the_schema_knows_the_sections_of_the_configuration(self) -> None:
        sections = SCHEMA["properties"]["config"]["properties"]
        assert set(sections) == set(Settings.model_fields)

    def test_the_schema_knows_the_chart_s_values(self) -> None:
        known = SCHEMA["properties"]
        assert set(known) - {"global"} == set(OWN_VALUES)
        for name, value in OWN_VALUES.items():
            if "properties" in known[name] and name != "config":
                assert set(known[name]["properties"]) == set(value), name
                assert known[name]["additionalProperties"] is False

    def test_the_readme_names_every_value_with_its_default(self) -> None:
        rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| .+ \|$", readme(), re.MULTILINE)
        values = dict(leaves(OWN_VALUES))
        assert [name for name, _ in rows] == list(values)
        for name, written in rows:
            if default := re.fullmatch("`(.*)`", written):
                assert yaml.safe_load(default[1]) == values[name], name

    def test_the_readme_s_values_are_taken(self) -> None:
        [text] = re.findall(r"^```yaml\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
        notes = notes_of(yaml.safe_load(text))
        assert "Wait for it" in notes
        assert "WARNING" not in notes
        assert notes_of({}).count("WARNING") == 3


def readme() -> str:
    return (CHART / "README.md").read_text()


def leaves(values: Manifest) -> list[tuple[str, Any]]:
    """The values that the README's table has a row for: those of a section of the chart's own one
    by one, and what Kubernetes or the daemon defines as a whole.
    """
    sections = {
        name
        for name in values
        if "additionalProperties" in SCHEMA["properties"][name]
        and name not in {"config", "resources"}
    }
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name in sections:
            found += [(f"{name}.{inner}", default) for inner, default in value.items()]
        else:
            found.append((name, value))
    return found


def notes_of(values: Manifest) -> str:
    done = helm(
        "install",
        RELEASE,
        str(CHART),
        "--namespace",
        NAMESPACE,
        "--dry-run=client",
        "--hide-secret",
        values=values,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:")[2]
