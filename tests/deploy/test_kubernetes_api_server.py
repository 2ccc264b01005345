"""The manifests in ``deploy/kubernetes`` on a real API server: its validation, its defaults, its
Pod Security admission.
"""

from __future__ import annotations

import copy
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.helm_chart import AUTOSCALED, EXAMPLES, FULL, LEAN, example, render
from tests.deploy.kubernetes_api_server import ApiServer, api_server
from tests.deploy.kubernetes_manifests import KUBERNETES, OVERLAYS, Manifest, overlay, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "modeldb-sync"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server on which every overlay was applied, and the account that a controller would
    have made.
    """
    with api_server(tmp_path_factory.mktemp("kubernetes"), free_port) as running:
        for name in OVERLAYS:
            for manifest in overlay(name).documents:
                answer = running.apply(manifest)
                assert answer.status in {200, 201}, answer.body
                assert answer.warnings == ()
        default = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": NAMESPACE},
        }
        assert running.create(default).status == 201
        yield running


@pytest.fixture(scope="module")
def operators(server: ApiServer) -> None:
    """The resource kinds of the Prometheus operator and of KEDA, with their schemas."""
    for variable, files in (
        (
            "PROMETHEUS_OPERATOR_CRDS",
            (
                "monitoring.coreos.com_servicemonitors.yaml",
                "monitoring.coreos.com_prometheusrules.yaml",
            ),
        ),
        ("KEDA_CRDS", ("keda.sh_scaledobjects.yaml", "keda.sh_triggerauthentications.yaml")),
    ):
        folder = os.environ.get(variable)
        if not folder:
            pytest.skip(
                f"needs {variable}, a folder of resource kinds: kubernetes_programs/README.md"
            )
        for file in files:
            kind = yaml.safe_load((Path(folder) / file).read_text())
            assert server.apply(kind).status == 201
            resources = (
                f"/apis/{kind['spec']['group']}/{kind['spec']['versions'][0]['name']}"
                f"/{kind['spec']['names']['plural']}"
            )
            until_served(server, resources)


def until_served(server: ApiServer, path: str) -> None:
    """Waits until the API server serves a new resource kind."""
    give_up = time.monotonic() + 30
    while server.ask("GET", path).status != 200:
        assert time.monotonic() < give_up, path
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pods() -> list[Manifest]:
    return [pod(workload) for name in OVERLAYS for workload in overlay(name).workloads]


def test_applying_again_changes_nothing(server: ApiServer) -> None:
    for manifest in overlay(OVERLAYS[-1]).documents:
        versions = [server.apply(manifest).body["metadata"]["resourceVersion"] for _ in range(2)]
        assert versions[0] == versions[1], manifest["metadata"]["name"]


def test_every_pod_is_admitted_without_a_warning(server: ApiServer) -> None:
    for number, wanted in enumerate(pods()):
        manifest = copy.deepcopy(wanted)
        manifest["metadata"]["name"] += f"-{number}"
        answer = server.create(manifest)
        assert answer.status == 201, answer.body
        assert answer.warnings == ()
        assert answer.body["spec"]["enableServiceLinks"] is False
        mounts = [
            mount
            for container in answer.body["spec"]["containers"]
            for mount in container.get("volumeMounts", ())
        ]
        # no token for the API server
        assert not any("serviceaccount" in mount["mountPath"] for mount in mounts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"securityContext": {"runAsNonRoot": False}}, "runAsNonRoot != true"),
        ({"securityContext": {"runAsUser": 0}}, "runAsUser=0"),
        ({"securityContext": {"capabilities": {"drop": []}}}, "unrestricted capabilities"),
        (
            {"securityContext": {"allowPrivilegeEscalation": True}},
            "allowPrivilegeEscalation != false",
        ),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
    ],
)
def test_a_less_restricted_pod_is_refused(server: ApiServer, change: Manifest, said: str) -> None:
    manifest = copy.deepcopy(pods()[0])
    [container] = manifest["spec"]["containers"]
    container["securityContext"] |= change["securityContext"]
    answer = server.create(manifest)
    assert answer.status == 403
    assert 'violates PodSecurity "restricted' in answer.body["message"]
    assert said in answer.body["message"]


def test_a_new_version_and_a_new_configuration_are_taken(server: ApiServer) -> None:
    manifest = copy.deepcopy(overlay(OVERLAYS[0]).daemon)
    template = manifest["spec"]["template"]["spec"]
    template["containers"][0]["image"] += "-next"
    template["volumes"][0]["configMap"]["name"] += "-next"
    before, after = server.apply(overlay(OVERLAYS[0]).daemon), server.apply(manifest)
    assert after.status == 200, after.body
    assert after.body["metadata"]["generation"] == before.body["metadata"]["generation"] + 1


def test_an_unknown_field_would_be_seen(server: ApiServer) -> None:
    manifest = copy.deepcopy(overlay(OVERLAYS[0]).daemon)
    manifest["spec"]["template"]["spec"]["enableServiceLink"] = False
    assert server.apply(manifest).status in {400, 500}


def test_the_operators_take_their_resources(server: ApiServer, operators: None) -> None:
    rules = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": NAMESPACE, "namespace": NAMESPACE},
        "spec": yaml.safe_load((KUBERNETES.parent / "monitoring" / "alerts.yml").read_text()),
    }
    components = [
        yaml.safe_load((KUBERNETES / "components" / file).read_text())
        for file in (
            "service-monitor/service-monitor.yaml",
            "autoscaling/scaled-object.yaml",
            "autoscaling/trigger-authentication.yaml",
        )
    ]
    for manifest in (rules, *components):
        answer = server.apply(manifest)
        assert answer.status == 201, answer.body
        assert answer.warnings == ()


def test_an_unknown_field_of_an_operator_would_be_seen(server: ApiServer, operators: None) -> None:
    scaled = yaml.safe_load(
        (KUBERNETES / "components" / "autoscaling" / "scaled-object.yaml").read_text()
    )
    scaled["spec"]["minReplicas"] = 1
    assert server.apply(scaled).status in {400, 500}


@pytest.mark.parametrize("values", [{}, FULL, LEAN, AUTOSCALED, *map(example, EXAMPLES)], ids=str)
def test_what_the_chart_gives_is_taken(
    server: ApiServer, operators: None, values: Manifest
) -> None:
    for number, manifest in enumerate(render(values, f"chart-{abs(hash(str(values)))}").documents):
        answer = server.apply(manifest)
        assert answer.status in {200, 201}, (number, answer.body)
        assert answer.warnings == ()
