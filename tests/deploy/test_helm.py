"""The chart in ``deploy/helm``: equal to the kustomize overlays, strict about its values, the same
after packaging.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon import __version__
from daemon.config.sources import DEFAULT_FILE, load_settings
from tests.deploy.helm_chart import (
    AUTOSCALED,
    CHART,
    EXAMPLES,
    FULL,
    LEAN,
    NAMESPACE,
    RELEASE,
    example,
    helm,
    render,
)
from tests.deploy.kubernetes_manifests import (
    KUBERNETES,
    NAME_LABEL,
    Manifest,
    Manifests,
    containers,
    overlay,
    pod_spec,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config.settings import Settings

MONITORING = KUBERNETES.parent / "monitoring"

HELMS_OWN = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
"""Labels of a chart: they tell releases apart, where kustomize has one folder for each."""


def comparable(manifests: Manifests) -> dict[tuple[str, str], Any]:
    """Everything by kind and name, but for what must differ: the labels of a chart; how a changed
    configuration makes a new Pod (kustomize: a hash in the ConfigMap's name, Helm: one in an
    annotation); the layout of the configuration's YAML; and the namespace, which Helm never
    deletes and therefore should not make.
    """
    found = {}
    for document in manifests.documents:
        if document["kind"] == "Namespace":
            continue
        plain = without(document, {*HELMS_OWN, "checksum/config"})
        if plain["kind"] == "ConfigMap":
            plain["data"] = {name: yaml.safe_load(text) for name, text in plain["data"].items()}
        text = re.sub(rf'"{RELEASE}-[a-z0-9]{{10}}"', f'"{RELEASE}"', json.dumps(plain))
        plain = json.loads(text)
        found[plain["kind"], plain["metadata"]["name"]] = plain
    return found


def without(value: Any, keys: set[str]) -> Any:
    """Without these keys, at any depth, and without annotations that are then empty."""
    if isinstance(value, dict):
        kept = {name: without(inner, keys) for name, inner in value.items() if name not in keys}
        return {name: inner for name, inner in kept.items() if (name, inner) != ("annotations", {})}
    return [without(inner, keys) for inner in value] if isinstance(value, list) else value


def settings_of(manifests: Manifests, workload: Manifest, tmp_path: Path) -> Settings:
    """What the daemon makes of the ConfigMap."""
    file = tmp_path / DEFAULT_FILE.name
    file.write_text(manifests.config(workload)["data"][DEFAULT_FILE.name])
    return load_settings(None, {}, tmp_path / "no-secrets", file)


def egress(manifests: Manifests) -> list[Manifest]:
    [policy] = manifests.of_kind("NetworkPolicy")
    rules: list[Manifest] = policy["spec"]["egress"]
    return rules


class TestSameAsKustomize:
    @pytest.mark.parametrize(
        ("values", "name"),
        [
            ({}, "existing-modeldb"),
            (example("mlflow"), "existing-mlflow"),
            (example("replicas"), "replicas"),
        ],
    )
    def test_resource_by_resource(self, values: Manifest, name: str) -> None:
        ours, theirs = comparable(render(values)), comparable(overlay(name))
        assert ours.keys() == theirs.keys()
        for key, resource in theirs.items():
            assert ours[key] == resource, key

    def test_the_autoscaling_is_that_of_the_component(self) -> None:
        manifests = render(AUTOSCALED)
        for kind, file in (
            ("ScaledObject", "scaled-object.yaml"),
            ("TriggerAuthentication", "trigger-authentication.yaml"),
        ):
            [ours] = manifests.of_kind(kind)
            theirs = (KUBERNETES / "components" / "autoscaling" / file).read_text()
            assert without(ours, HELMS_OWN) == yaml.safe_load(theirs)
        assert "replicas" not in manifests.daemon["spec"]

    def test_the_service_monitor_is_that_of_the_component(self) -> None:
        [ours] = render(example("monitoring")).of_kind("ServiceMonitor")
        theirs = yaml.safe_load(
            (KUBERNETES / "components" / "service-monitor" / "service-monitor.yaml").read_text()
        )
        assert without(ours, HELMS_OWN) == theirs

    def test_rules_and_dashboard_are_those_of_the_monitoring_folder(self) -> None:
        manifests = render(example("monitoring"))
        [rule] = manifests.of_kind("PrometheusRule")
        assert rule["spec"] == yaml.safe_load((MONITORING / "alerts.yml").read_text())
        [text] = manifests.one("ConfigMap", f"{RELEASE}-dashboard")["data"].values()
        assert json.loads(text) == json.loads(
            (MONITORING / "grafana" / "dashboards" / "modeldb-sync.json").read_text()
        )


class TestPackage:
    def test_lint_finds_nothing(self) -> None:
        for values in ({}, FULL, LEAN, AUTOSCALED, *map(example, EXAMPLES)):
            done = helm("lint", "--strict", str(CHART), values=values)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "[WARNING]" not in done.stdout

    def test_it_is_complete_and_the_same_as_the_folder(self, tmp_path: Path) -> None:
        done = helm("package", str(CHART), "--destination", str(tmp_path))
        assert done.returncode == 0, done.stderr
        package = tmp_path / f"sagemaker-modeldb-sync-{__version__}.tgz"
        with tarfile.open(package) as archive:
            members = {
                member.name.partition("/")[2]: member.isfile() for member in archive.getmembers()
            }
        assert set(members.values()) == {True}  # no links out of the package
        assert {"files/alerts.yml", "files/dashboard.json", "values.schema.json"} <= set(members)
        assert not [name for name in members if name.startswith("examples")]
        for values in ({}, example("monitoring")):
            assert render(values, chart=package) == render(values)

    def test_it_works_inside_another_chart(self, tmp_path: Path) -> None:
        shutil.copytree(CHART, tmp_path / "charts" / "sagemaker-modeldb-sync")
        (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: around\nversion: 1.0.0\n")
        ours = render({"sagemaker-modeldb-sync": {}, "global": {"region": "x"}}, chart=tmp_path)
        assert comparable(ours) == comparable(render({}))

    def test_chart_and_daemon_have_one_version(self) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


class TestDerived:
    """What the chart reads from the configuration."""

    @pytest.mark.parametrize(
        ("target", "port"),
        [
            ({"url": "http://modeldb.example.com:8080/v1"}, 8080),
            ({"url": "http://modeldb.example.com/v1"}, 80),
            ({"url": "https://modeldb.example.com/v1"}, None),
            ({"url": "https://modeldb.example.com:8443/v1"}, 8443),
            ({"url": "http://[2001:db8::1]:8080/v1"}, 8080),
            ({"url": "http://[2001:db8::1]/v1"}, 80),
            ({"url": None, "kind": "modeldb-v1", "host": "modeldb"}, 6543),
            ({"url": None, "kind": "modeldb-v1", "host": "modeldb", "port": 7000}, 7000),
            ({"url": None, "kind": "mlflow", "tracking_uri": "http://mlflow:5000"}, 5000),
            (
                {
                    "url": None,
                    "kind": "mlflow",
                    "tracking_uri": "arn:aws:sagemaker:eu-west-1:123456789012:"
                    "mlflow-tracking-server/a",
                },
                None,
            ),
        ],
    )
    def test_the_port_of_the_target_is_let_out(self, target: Manifest, port: int | None) -> None:
        manifests = render({"config": {"target": target}})
        beyond = egress(manifests)[3:]
        wanted = [] if port is None else [{"ports": [{"protocol": "TCP", "port": port}]}]
        assert beyond == wanted

    def test_the_port_of_the_daemon_is_that_of_its_configuration(self, tmp_path: Path) -> None:
        manifests = render(FULL)
        workload = manifests.one("StatefulSet", "full")
        [container] = containers(workload)
        [service] = manifests.of_kind("Service")
        [policy] = manifests.of_kind("NetworkPolicy")
        port = settings_of(manifests, workload, tmp_path).http.port
        assert port == 8000
        assert [entry["containerPort"] for entry in container["ports"]] == [port]
        assert [entry["port"] for entry in service["spec"]["ports"]] == [port]
        assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port}]

    def test_the_daemon_has_time_to_stop(self, tmp_path: Path) -> None:
        manifests = render(FULL)
        workload = manifests.one("StatefulSet", "full")
        grace = settings_of(manifests, workload, tmp_path).shutdown.grace_seconds
        assert grace == 40
        assert pod_spec(workload)["terminationGracePeriodSeconds"] == 45

    def test_the_disk_is_where_the_checkpoint_is(self) -> None:
        manifests = render({"config": {"checkpoint": {"path": "/data/sync/checkpoint.db"}}})
        [container] = containers(manifests.daemon)
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["checkpoint"] == "/data/sync"

    def test_every_example_is_a_configuration_of_the_daemon(self, tmp_path: Path) -> None:
        for name in EXAMPLES:
            manifests = render(example(name))
            settings = settings_of(manifests, manifests.daemon, tmp_path)
            assert settings.queue.url.endswith("/modeldb-sync"), name

    def test_large_numbers_stay_whole(self) -> None:
        config = {
            "reconcile": {"longest_job_seconds": 2_419_200},
            "aws": {"account_id": "012345678901"},
        }
        manifests = render({"config": config})
        text = manifests.config(manifests.daemon)["data"][DEFAULT_FILE.name]
        assert "longest_job_seconds: 2419200\n" in text
        assert 'account_id: "012345678901"\n' in text


class TestChoices:
    def test_everything_set_is_in_the_pod(self) -> None:
        manifests = render(FULL)
        spec = pod_spec(manifests.one("StatefulSet", "full"))
        [container] = spec["containers"]
        assert container["image"] == (
            f"ghcr.io/OWNER/sagemaker-modeldb-sync:1.2.3@sha256:{'0' * 64}"
        )
        assert container["imagePullPolicy"] == "Always"
        assert container["env"] == FULL["extraEnv"]
        assert container["envFrom"][0]["secretRef"] == {"name": "modeldb-token", "optional": False}
        assert container["volumeMounts"][-1] == FULL["extraVolumeMounts"][0]
        assert spec["volumes"][-1] == FULL["extraVolumes"][0]
        assert spec["serviceAccountName"] == "other"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        for name in (
            "nodeSelector",
            "tolerations",
            "affinity",
            "priorityClassName",
        ):
            assert spec[name] == FULL[name]
        metadata = manifests.one("StatefulSet", "full")["spec"]["template"]["metadata"]
        assert FULL["podAnnotations"].items() <= metadata["annotations"].items()
        assert FULL["podLabels"].items() <= metadata["labels"].items()

    def test_pods_are_spread_by_the_labels_of_the_release_unless_others_are_given(self) -> None:
        on_nodes = {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
        }
        given = on_nodes | {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}
        manifests = render({"topologySpreadConstraints": [on_nodes, given]})
        [workload] = manifests.of_kind("StatefulSet")
        own = {"labelSelector": workload["spec"]["selector"]}
        assert pod_spec(workload)["topologySpreadConstraints"] == [on_nodes | own, given]

    def test_what_can_be_left_out_is_left_out(self) -> None:
        manifests = render(LEAN)
        assert {document["kind"] for document in manifests.documents} == {
            "ConfigMap",
            "Service",
            "StatefulSet",
        }
        workload = manifests.one("StatefulSet", "lean")
        assert "volumeClaimTemplates" not in workload["spec"]
        assert {"name": "checkpoint", "emptyDir": {}} in pod_spec(workload)["volumes"]
        assert pod_spec(workload)["serviceAccountName"] == "default"

    def test_two_releases_in_one_namespace_do_not_meet(self) -> None:
        one, two = render({}, "one"), render({}, "two")
        assert not {
            (document["kind"], document["metadata"]["name"]) for document in one.documents
        } & {(document["kind"], document["metadata"]["name"]) for document in two.documents}
        [service] = one.of_kind("Service")
        for other, found in ((one, True), (two, False)):
            [workload] = other.of_kind("StatefulSet")
            labels = workload["spec"]["template"]["metadata"]["labels"]
            assert (service["spec"]["selector"].items() <= labels.items()) is found

    def test_the_alert_rules_find_a_release_of_any_name(self) -> None:
        [monitor] = render(example("monitoring"), "other").of_kind("ServiceMonitor")
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "modeldb-sync"}]

    def test_a_changed_configuration_is_a_new_pod(self) -> None:
        changed = render({"config": {"log": {"level": "debug"}}})
        assert (
            changed.daemon["spec"]["template"]["metadata"]["annotations"]
            != render({}).daemon["spec"]["template"]["metadata"]["annotations"]
        )

    def test_names_and_labels_are_the_daemon_s(self) -> None:
        for values in ({}, FULL, LEAN, AUTOSCALED):
            for document in render(values).documents:
                assert document["metadata"]["labels"][NAME_LABEL] == "sagemaker-modeldb-sync"
                assert document["metadata"]["namespace"] == NAMESPACE
