"""The metrics that the daemon exports: a scrape of its registry after each bounded label value was
counted once.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from daemon.aws.errors import DYNAMODB, SAGEMAKER, SQS, STS, CallResult
from daemon.aws.ports import QueueState
from daemon.checkpoint.ports import JobState
from daemon.observability.metrics import HEARTBEAT_RESULTS, Metrics
from daemon.pipeline.step import MEASURED_STEPS
from daemon.targets.modeldb_v1.errors import CallErrorKind
from daemon.targets.modeldb_v2.errors import ApiErrorKind

if TYPE_CHECKING:
    from collections.abc import Mapping

OF_THE_SCRAPE = frozenset({"job", "instance", "namespace"})
"""Labels that Prometheus gives to every series of a target (namespace: in Kubernetes)."""

OF_PROMETHEUS = frozenset({"up", "ALERTS"})
"""Series that Prometheus makes itself."""


@cache
def exported_families() -> Mapping[str, Mapping[str, Mapping[str, set[str]]]]:
    """Families, the samples in each, and each sample's labels with their values."""
    metrics = Metrics(version="0.1.0", target="modeldb-v2")
    metrics.received(1)
    for step in MEASURED_STEPS:
        metrics.step(step, 0.1)
    for result in HEARTBEAT_RESULTS:
        metrics.heartbeat(result)
    for kind in (*ApiErrorKind, *CallErrorKind, "ok", "interrupted"):
        metrics.target_request("createExperimentRun", kind)
    for service in (SQS, SAGEMAKER, STS, DYNAMODB):
        for call_result in CallResult:
            metrics.aws_request(service.prefix, "ReceiveMessage", call_result)
    metrics.queue(
        QueueState(
            visible=1,
            in_flight=1,
            delayed=1,
            visibility_seconds=120,
            max_receive_count=10,
            dead_letter_url="",
            dead_letter_messages=1,
        )
    )
    metrics.rows(dict.fromkeys(JobState, 1))
    metrics.account_breaker_open.labels("own", "own").set(1)

    families: dict[str, dict[str, defaultdict[str, set[str]]]] = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        samples = families.setdefault(family.name, {})
        for sample in family.samples:
            labels = samples.setdefault(sample.name, defaultdict(set))
            for name, value in sample.labels.items():
                labels[name].add(value)
    return families


@cache
def exported_samples() -> Mapping[str, Mapping[str, set[str]]]:
    """Every sample name with its labels and their values."""
    return {
        name: labels for samples in exported_families().values() for name, labels in samples.items()
    }
