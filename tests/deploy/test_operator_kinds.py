"""Resources of other operators (Prometheus operator, KEDA), from kustomize and from the chart,
against the schemas of their resource kinds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # publishes no types
import pytest
import yaml

from tests.deploy.helm_chart import AUTOSCALED, example, render
from tests.deploy.kubernetes_manifests import KUBERNETES, Manifest

KINDS = {
    "ServiceMonitor": ("PROMETHEUS_OPERATOR_CRDS", "monitoring.coreos.com_servicemonitors.yaml"),
    "PrometheusRule": ("PROMETHEUS_OPERATOR_CRDS", "monitoring.coreos.com_prometheusrules.yaml"),
    "ScaledObject": ("KEDA_CRDS", "keda.sh_scaledobjects.yaml"),
    "TriggerAuthentication": ("KEDA_CRDS", "keda.sh_triggerauthentications.yaml"),
}


def schema_of(kind: str) -> Manifest:
    """The schema of a resource kind; the test is skipped where it is missing."""
    variable, file = KINDS[kind]
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"needs {variable}, a folder of resource kinds: kubernetes_programs/README.md")
    definition = yaml.safe_load((Path(folder) / file).read_text())
    [version] = [found for found in definition["spec"]["versions"] if found["storage"]]
    schema: Manifest = closed(version["schema"]["openAPIV3Schema"])
    # what every resource has is not spelt out there
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def closed(schema: Any) -> Any:
    """The schema, with unknown fields refused, as Kubernetes does if it is asked for strict
    validation.
    """
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(inner) for name, inner in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if "(?i)" in str(found.get("pattern")):  # Go takes flags anywhere, Python at the start only
        found["pattern"] = "(?i)" + found["pattern"].replace("(?i)", "")
    return found


def resources(kind: str) -> list[Manifest]:
    manifests = [
        document
        for values in (AUTOSCALED, example("monitoring"))
        for document in render(values).of_kind(kind)
    ]
    manifests += [
        document
        for file in (KUBERNETES / "components").rglob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if document["kind"] == kind
    ]
    return manifests


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_s_schema_accepts_it(kind: str) -> None:
    schema = schema_of(kind)
    found = resources(kind)
    assert found
    for manifest in found:
        jsonschema.Draft7Validator(schema).validate(manifest)


@pytest.mark.parametrize(
    ("kind", "field"), [("ScaledObject", "minReplicas"), ("ServiceMonitor", "selectors")]
)
def test_an_unknown_field_would_be_seen(kind: str, field: str) -> None:
    schema = schema_of(kind)
    [manifest, *_] = resources(kind)
    manifest = manifest | {"spec": manifest["spec"] | {field: 1}}
    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.Draft7Validator(schema).validate(manifest)
