"""The output of Helm for ``deploy/helm``, and the sets of values that several tests render."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.kubernetes_manifests import Manifest, Manifests

CHART = Path(__file__).parents[2] / "deploy" / "helm"
EXAMPLES = sorted(file.stem for file in (CHART / "examples").glob("*.yaml"))
NAMESPACE = "modeldb-sync"
RELEASE = "modeldb-sync"


def example(name: str) -> Manifest:
    values: Manifest = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    return values


AUTOSCALED: Manifest = example("replicas") | {"autoscaling": {"enabled": True, "maxReplicas": 4}}

FULL: Manifest = {
    "image": {
        "tag": "1.2.3",
        "digest": f"sha256:{'0' * 64}",
        "pullPolicy": "Always",
        "pullSecrets": [{"name": "registry"}],
    },
    "config": {"http": {"port": 8000}, "shutdown": {"grace_seconds": 40}},
    "existingSecret": "modeldb-token",
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/modeldb-sync-ca", "readOnly": True}],
    "persistence": {"size": "2Gi", "storageClassName": "gp3", "accessMode": "ReadWriteOnce"},
    "serviceAccount": {"name": "other", "annotations": {"example.com/owner": "ml"}},
    "podAnnotations": {"example.com/team": "ml"},
    "podLabels": {"example.com/cost-center": "42"},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "ml", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}
                ]
            }
        }
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
        }
    ],
    "priorityClassName": "system-cluster-critical",
    "networkPolicy": {
        "monitoringNamespace": "observability",
        "extraEgress": [{"ports": [{"protocol": "TCP", "port": 3128}]}],
    },
    "fullnameOverride": "full",
}
"""Every value that can be beside the others, set."""

LEAN: Manifest = {
    "persistence": {"enabled": False},
    "serviceAccount": {"create": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "fullnameOverride": "lean",
}
"""Everything that can be left out, left out."""


def helm(*arguments: str, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Helm with values beyond the chart's own; the test is skipped where there is no Helm."""
    program = os.environ.get("HELM") or shutil.which("helm")
    if not program:
        pytest.skip("needs helm on PATH, or HELM: go install helm.sh/helm/v4/cmd/helm@v4.3.2")
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [program, *arguments, *given],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )


def render(values: Manifest, release: str = RELEASE, chart: Path = CHART) -> Manifests:
    """What ``helm install`` with these values would apply."""
    return _rendered(json.dumps(values), release, chart)


@functools.cache
def _rendered(values: str, release: str, chart: Path) -> Manifests:
    done = helm(
        "template", release, str(chart), "--namespace", NAMESPACE, values=json.loads(values)
    )
    assert done.returncode == 0, done.stderr
    return Manifests(
        tuple(document for document in yaml.safe_load_all(done.stdout) if document is not None)
    )


def refusal(values: Manifest) -> str:
    """Why Helm refuses these values."""
    done = helm("template", RELEASE, str(CHART), values=values)
    assert done.returncode != 0
    assert not done.stdout
    return done.stderr
