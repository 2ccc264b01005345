"""The output of kustomize for ``deploy/kubernetes``, and helpers that several tests use."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Manifest: TypeAlias = dict[str, Any]

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
ONE_DAEMON = ("existing-modeldb", "existing-mlflow", "modeldb-v2")
"""Overlays with a checkpoint that only one daemon has."""
OVERLAYS = (*ONE_DAEMON, "replicas")
DAEMON = "sagemaker-modeldb-sync"
"""Value of the label app.kubernetes.io/name, and name of the image."""
NAME_LABEL = "app.kubernetes.io/name"


@dataclass(frozen=True)
class Manifests:
    """The documents of one build."""

    documents: tuple[Manifest, ...]

    def of_kind(self, kind: str) -> list[Manifest]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        [found] = [
            document for document in self.of_kind(kind) if document["metadata"]["name"] == name
        ]
        return found

    @property
    def workloads(self) -> list[Manifest]:
        return [
            document
            for document in self.documents
            if document["kind"] in {"StatefulSet", "Deployment"}
        ]

    @property
    def daemon(self) -> Manifest:
        [found] = [
            workload
            for workload in self.workloads
            if workload["metadata"]["name"] == "modeldb-sync"
        ]
        return found

    def config(self, workload: Manifest) -> Manifest:
        """The ConfigMap that a workload mounts."""
        [name] = [
            volume["configMap"]["name"]
            for volume in pod_spec(workload)["volumes"]
            if "configMap" in volume
        ]
        return self.one("ConfigMap", name)


def kustomize(folder: Path) -> Manifests:
    """Builds a folder; the test is skipped where there is no kustomize. A warning fails the
    test.
    """
    done = subprocess.run([*_command(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns"
    return Manifests(tuple(yaml.safe_load_all(done.stdout)))


@functools.cache
def overlay(name: str) -> Manifests:
    return kustomize(KUBERNETES / "overlays" / name)


def _command() -> list[str]:
    if named := os.environ.get("KUSTOMIZE"):
        return [named, "build"]
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    pytest.skip(
        "needs kustomize or kubectl on PATH, or KUSTOMIZE: go install "
        "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
    )


def pod_spec(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def containers(workload: Manifest) -> list[Manifest]:
    spec = pod_spec(workload)
    return [*spec.get("initContainers", ()), *spec["containers"]]


def pod(workload: Manifest) -> Manifest:
    """The Pod that a workload's controller would make."""
    template = workload["spec"]["template"]
    spec = dict(template["spec"])
    claims = [
        {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": f"{claim['metadata']['name']}-0"},
        }
        for claim in workload["spec"].get("volumeClaimTemplates", ())
    ]
    spec["volumes"] = [*spec.get("volumes", ()), *claims]
    name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
    metadata = {
        "name": f"{name}-0",
        "namespace": namespace,
        "labels": template["metadata"]["labels"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
