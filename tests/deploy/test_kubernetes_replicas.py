"""Several daemons on one queue: ``deploy/kubernetes/overlays/replicas`` and the autoscaling for
it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from daemon.config.sources import DEFAULT_FILE, load_settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from tests.deploy.kubernetes_manifests import (
    KUBERNETES,
    NAME_LABEL,
    Manifest,
    Manifests,
    kustomize,
    overlay,
    pod_spec,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config.settings import Settings

MOST_REQUESTS = 8
"""What a ModelDB V2 can take at once, over all daemons."""

SQS_SCALER = {
    "activationQueueLength",
    "awsEndpoint",
    "awsRegion",
    "queueLength",
    "queueURL",
    "queueURLFromEnv",
    "scaleOnDelayed",
    "scaleOnInFlight",
}
"""The metadata that KEDA's scaler aws-sqs-queue reads (awsSqsQueueMetadata, KEDA 2.20), except the
deprecated identityOwner. It ignores others.
"""


@pytest.fixture
def replicas() -> Manifests:
    return overlay("replicas")


@pytest.fixture
def autoscaled(tmp_path: Path) -> Manifests:
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    kustomization = copy / "overlays" / "replicas" / "kustomization.yaml"
    text = kustomization.read_text()
    line = "  - ../../components/autoscaling\n"
    assert f"# {line}" in text
    kustomization.write_text(text.replace(f"# {line}", line))
    return kustomize(kustomization.parent)


def settings_of(manifests: Manifests, tmp_path: Path) -> Settings:
    file = tmp_path / DEFAULT_FILE.name
    file.write_text(manifests.config(manifests.daemon)["data"][DEFAULT_FILE.name])
    return load_settings(None, {}, tmp_path / "no-secrets", file)


def requests_at_once(settings: Settings) -> int:
    assert isinstance(settings.target, ModelDbV2Settings)
    return settings.target.max_concurrency


def pod_without(manifests: Manifests, *fields: str) -> dict[str, Any]:
    """The Pod, but for these fields, its volumes, and where they are mounted."""
    spec = {name: value for name, value in pod_spec(manifests.daemon).items() if name not in fields}
    del spec["volumes"]
    spec["containers"] = [
        {name: value for name, value in container.items() if name != "volumeMounts"}
        for container in spec["containers"]
    ]
    return spec


class TestReplicas:
    def test_an_update_starts_the_next_pod_before_the_previous_one_ends(
        self, replicas: Manifests
    ) -> None:
        spec = replicas.daemon["spec"]
        assert replicas.daemon["kind"] == "Deployment"
        assert spec["replicas"] > 1
        assert spec["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        }

    def test_at_most_one_old_pod_drains_at_a_time(self, replicas: Manifests) -> None:
        assert (
            replicas.daemon["spec"]["minReadySeconds"]
            >= pod_spec(replicas.daemon)["terminationGracePeriodSeconds"]
        )

    def test_they_share_a_checkpoint_and_have_no_disk(
        self, replicas: Manifests, tmp_path: Path
    ) -> None:
        assert settings_of(replicas, tmp_path).checkpoint.kind == "dynamodb"
        assert "volumeClaimTemplates" not in replicas.daemon["spec"]
        [volume] = pod_spec(replicas.daemon)["volumes"]
        assert set(volume) == {"name", "configMap"}

    def test_the_pod_is_otherwise_that_of_one_daemon(self, replicas: Manifests) -> None:
        assert pod_without(replicas, "topologySpreadConstraints") == pod_without(
            overlay("existing-modeldb")
        )

    def test_modeldb_is_not_asked_for_more_than_it_can_take(
        self, replicas: Manifests, tmp_path: Path
    ) -> None:
        each = requests_at_once(settings_of(replicas, tmp_path))
        # while an update goes on: one Pod more, and one that drains
        assert (replicas.daemon["spec"]["replicas"] + 2) * each <= MOST_REQUESTS

    def test_they_are_spread_and_an_update_counts_only_its_own(self, replicas: Manifests) -> None:
        labels = replicas.daemon["spec"]["template"]["metadata"]["labels"]
        constraints = pod_spec(replicas.daemon)["topologySpreadConstraints"]
        assert [constraint["topologyKey"] for constraint in constraints] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        for constraint in constraints:
            assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()
            assert NAME_LABEL in constraint["labelSelector"]["matchLabels"]
            assert constraint["matchLabelKeys"] == ["pod-template-hash"]
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


class TestAutoscaling:
    def scaled(self, manifests: Manifests) -> Manifest:
        [found] = manifests.of_kind("ScaledObject")
        spec: Manifest = found["spec"]
        return spec

    def trigger(self, manifests: Manifests) -> Manifest:
        [found] = self.scaled(manifests)["triggers"]
        assert found["type"] == "aws-sqs-queue"
        return dict(found)

    def test_the_last_daemon_is_never_stopped(self, autoscaled: Manifests) -> None:
        spec = self.scaled(autoscaled)
        assert spec["minReplicaCount"] >= 1
        assert "idleReplicaCount" not in spec

    def test_at_most_so_many_as_modeldb_can_take(
        self, autoscaled: Manifests, tmp_path: Path
    ) -> None:
        each = requests_at_once(settings_of(autoscaled, tmp_path))
        assert self.scaled(autoscaled)["maxReplicaCount"] * each <= MOST_REQUESTS

    def test_it_scales_the_daemon_and_nothing_else_does(self, autoscaled: Manifests) -> None:
        # kind and apiVersion are absent: KEDA's defaults are Deployment and apps/v1
        assert self.scaled(autoscaled)["scaleTargetRef"] == {
            "name": autoscaled.daemon["metadata"]["name"]
        }
        assert autoscaled.daemon["kind"] == "Deployment"
        assert "replicas" not in autoscaled.daemon["spec"]

    def test_it_reads_the_queue_of_the_configuration(
        self, autoscaled: Manifests, tmp_path: Path
    ) -> None:
        settings = settings_of(autoscaled, tmp_path)
        metadata = self.trigger(autoscaled)["metadata"]
        assert set(metadata) <= SQS_SCALER
        assert {type(value) for value in metadata.values()} == {str}
        assert metadata["queueURL"] == settings.queue.url
        assert metadata["awsRegion"] == settings.aws.region
        assert int(metadata["queueLength"]) > settings.queue.max_in_flight

    def test_held_and_hidden_messages_start_no_replica(self, autoscaled: Manifests) -> None:
        metadata = self.trigger(autoscaled)["metadata"]
        assert (metadata["scaleOnInFlight"], metadata["scaleOnDelayed"]) == ("false", "false")

    def test_it_has_the_identity_of_keda(self, autoscaled: Manifests) -> None:
        [authentication] = autoscaled.of_kind("TriggerAuthentication")
        assert self.trigger(autoscaled)["authenticationRef"] == {
            "name": authentication["metadata"]["name"]
        }
        assert authentication["spec"] == {
            "podIdentity": {"provider": "aws", "identityOwner": "keda"}
        }

    def test_daemons_are_stopped_one_at_a_time_after_a_while(self, autoscaled: Manifests) -> None:
        behavior = self.scaled(autoscaled)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        [policy] = behavior["scaleDown"]["policies"]
        assert policy["value"] == 1
        assert (
            policy["periodSeconds"] > pod_spec(autoscaled.daemon)["terminationGracePeriodSeconds"]
        )
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
