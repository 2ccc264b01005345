"""How a run in MLflow and its model version differ from what their job would be written as now.
Pure.

Only what this program wrote is compared: the tags, params, metrics and data sets of the mapping.
Others are people's. So is a description that differs from the one that was written last, whose hash
is in a tag of the run: that tag is to be written after the description of a version, and together
with that of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from daemon.targets.mlflow.mapping import (
    ARN_TAG,
    AWS_TAG_PREFIX,
    CHANNEL_PREFIX,
    CREATION_TIME_TAG,
    DESCRIPTION_TAG,
    NON_FINITE_TAG,
    NOTE_TAG,
    NOTES_TAG,
    SDK_PREFIX,
    VERSION_DESCRIPTION_TAG,
    VERSION_OF_SYNC_TAG,
    description_digest,
    distinct_run_name,
)
from daemon.targets.mlflow.marked_runs import ADOPTED_TAG
from daemon.targets.renaming import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.targets.mlflow.entities import DatasetInput, MetricPoint, ModelVersion, Run
    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.training_job.training_run import TrainingRun

_NEVER_CHANGED = frozenset({ARN_TAG, CREATION_TIME_TAG, VERSION_OF_SYNC_TAG})
"""The mark, by which the run is found, and the version of this program that created it."""
_OF_DESCRIPTIONS = frozenset({NOTE_TAG, DESCRIPTION_TAG, VERSION_DESCRIPTION_TAG})
_MAY_END = (AWS_TAG_PREFIX, CHANNEL_PREFIX, SDK_PREFIX)
"""Tags that are this program's and that a job may lose. What else the mapping lacks may only be
unreadable today, so it stays."""
_TUNING_KNOWN = "sagemaker.tuning_status"


@dataclass(frozen=True, slots=True)
class Differences:
    """What to do to a run and its model version, and the same for people, who are never shown
    values.
    """

    version_description: tuple[ModelVersion, str] | None = None
    """The version whose description is to be changed, and the new one; before the tags."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """To be set. The run's description and its hash are the first two, for one call."""
    old_tags: tuple[str, ...] = ()
    """To be deleted."""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[MetricPoint, ...] = ()
    inputs: tuple[DatasetInput, ...] = ()
    status: str | None = None
    """This and the next: None if it is right; last."""
    end_time: int | None = None
    lacks_version: bool = False
    """No version of the job's model is registered from the run: it never was, or people deleted it.
    In none of the texts."""
    changed: tuple[str, ...] = ()
    unchangeable: tuple[str, ...] = ()


def differences(
    stored: Run,
    versions: Sequence[ModelVersion],
    mapped: MappedRun,
    run: TrainingRun,
) -> Differences:
    """Compares a run with its job. Of a run that SageMaker created, only what this program added:
    tags that it lacked, data sets and the model version.

    Args:
        stored: the run.
        versions: those that this program registered from it, the lowest number first.
        mapped: the job.
        run: the same job, before the mapping.
    """
    is_adopted = ADOPTED_TAG in stored.tags
    found = _Comparison(stored, mapped, run, is_adopted=is_adopted)
    changed: list[str] = []
    kept: list[str] = []
    version, of_version = found.version_description(versions, changed, kept)
    described = found.description(changed, kept)
    tags = found.tags(changed)
    old_tags = tuple(found.old_tags())
    changed += [f"tag {quoted(key)} (outdated)" for key in old_tags]
    params = {} if is_adopted else found.params(changed, kept)
    metrics = () if is_adopted else tuple(found.metrics(changed, kept))
    inputs = tuple(found.inputs(changed))
    status = end_time = None
    if not is_adopted:
        status = mapped.status if stored.status != mapped.status else None
        end_time = mapped.end_time if stored.end_time != mapped.end_time else None
        changed += ["status (differs)"] * (status is not None)
        changed += ["end time (differs)"] * (end_time is not None)
        kept += found.fixed()
    return Differences(
        version_description=version,
        tags=described | of_version | tags,
        old_tags=old_tags,
        params=params,
        metrics=metrics,
        inputs=inputs,
        status=status,
        end_time=end_time,
        lacks_version=mapped.model is not None and not versions,
        changed=tuple(changed),
        unchangeable=tuple(kept),
    )


class _Comparison:
    def __init__(
        self, stored: Run, mapped: MappedRun, run: TrainingRun, *, is_adopted: bool
    ) -> None:
        self._stored = stored
        self._mapped = mapped
        self._run = run
        self._is_adopted = is_adopted
        self._tuning_unknown = run.tuning is None and _TUNING_KNOWN in stored.tags

    def description(self, changed: list[str], kept: list[str]) -> dict[str, str]:
        """The run's description and its hash, if they are to be written."""
        wanted = self._mapped.tags
        if self._is_adopted and NOTE_TAG in self._stored.tags:
            return {}
        ours = self._is_to_be_described(
            "description", self._stored.tags.get(NOTE_TAG, ""), DESCRIPTION_TAG, kept
        )
        if ours is None:
            return {}
        if ours:
            changed.append("description (differs)")
        return {key: wanted[key] for key in (NOTE_TAG, DESCRIPTION_TAG) if key in wanted}

    def version_description(
        self, versions: Sequence[ModelVersion], changed: list[str], kept: list[str]
    ) -> tuple[tuple[ModelVersion, str] | None, dict[str, str]]:
        """The version to describe with its description, and the tag with the hash."""
        model = self._mapped.model
        if model is None or not versions:
            return None, {}
        version = versions[0]
        if version.name != model.name:
            kept.append(
                f"model: the job's is {quoted(model.name)}, its version is in "
                f"{quoted(version.name)}; MLflow cannot move a version"
            )
            return None, {}
        if version.source != model.source:
            kept.append("source of the model version: MLflow sets it only when one is created")
        kept += [
            f"tag {quoted(key)} of the model version: set only when one is created"
            for key, value in model.tags.items()
            if version.tags.get(key) != value
        ]
        ours = self._is_to_be_described(
            "description of the model version",
            version.description,
            VERSION_DESCRIPTION_TAG,
            kept,
        )
        if ours is None:
            return None, {}
        tag = {VERSION_DESCRIPTION_TAG: self._mapped.tags[VERSION_DESCRIPTION_TAG]}
        if not ours:
            return None, tag
        changed.append("description of the model version (differs)")
        return (version, model.version_description), tag

    def _is_to_be_described(
        self, what: str, stored: str, hash_tag: str, kept: list[str]
    ) -> bool | None:
        """True: with its hash; False: only the hash is wrong; None: nothing, which `kept` says if
        the description is another one.
        """
        written, wanted = self._stored.tags.get(hash_tag), self._mapped.tags[hash_tag]
        if description_digest(stored) == wanted:
            return None if written == wanted else False
        if self._tuning_unknown:
            kept.append(f"{what}: what SageMaker says of the tuning job cannot be read now")
            return None
        if description_digest(stored) != written and (stored or written is not None):
            kept.append(f"{what}: edited by people")
            return None
        return True

    def tags(self, changed: list[str]) -> dict[str, str]:
        wrong = {
            key: value
            for key, value in self._mapped.tags.items()
            if key not in _NEVER_CHANGED | _OF_DESCRIPTIONS
            and self._stored.tags.get(key) != value
            and not (self._is_adopted and key.startswith("mlflow.") and key in self._stored.tags)
        }
        changed += [
            f"tag {quoted(key)} ({'differs' if key in self._stored.tags else 'missing'})"
            for key in wrong
        ]
        return wrong

    def old_tags(self) -> Iterator[str]:
        for key in self._stored.tags:
            may_end = key.startswith(_MAY_END) or key in {NOTES_TAG, NON_FINITE_TAG}
            if may_end and key not in self._mapped.tags:
                yield key

    def params(self, changed: list[str], kept: list[str]) -> dict[str, str]:
        missing = {}
        for key, value in self._mapped.params.items():
            if key not in self._stored.params:
                missing[key] = value
                changed.append(f"param {quoted(key)} (missing)")
            elif self._stored.params[key] != value:
                kept.append(f"param {quoted(key)} (differs): MLflow cannot change a param")
        return missing

    def metrics(self, changed: list[str], kept: list[str]) -> Iterator[MetricPoint]:
        """All points of each metric whose latest value is not the job's."""
        ordered = sorted(self._mapped.metrics, key=lambda point: point.key)
        for key, group in groupby(ordered, key=lambda point: point.key):
            points = list(group)
            latest = max(points, key=_lateness)
            found = self._stored.metrics.get(key)
            if found is None:
                changed.append(f"metric {quoted(key)} (missing)")
            elif _lateness(found) == _lateness(latest) and _is_same(found.value, latest.value):
                continue
            elif _lateness(found) >= _lateness(latest):
                if not _is_same(found.value, latest.value):
                    kept.append(f"metric {quoted(key)} (differs): MLflow has a later value")
                continue
            else:
                changed.append(f"metric {quoted(key)} (differs)")
            yield from points

    def inputs(self, changed: list[str]) -> Iterator[DatasetInput]:
        known = {(data.name, data.digest, data.context) for data in self._stored.inputs}
        for data in self._mapped.inputs:
            if (data.name, data.digest, data.context) not in known:
                changed.append(f"data set {quoted(data.name)} (missing)")
                yield data

    def fixed(self) -> Iterator[str]:
        """What MLflow cannot change, or people have."""
        stored, mapped = self._stored, self._mapped
        if stored.start_time != mapped.start_time:
            yield "start time: MLflow sets it only when a run is created"
        if stored.name not in {
            mapped.run_name,
            distinct_run_name(mapped.run_name, self._run.mark),
        }:
            yield f"name: people have renamed the run to {quoted(stored.name)}"


def _lateness(point: MetricPoint) -> tuple[int, int, float]:
    """By which MLflow decides which value of a metric is the latest; it stores NaN as 0."""
    return point.step, point.timestamp, 0.0 if math.isnan(point.value) else point.value


def _is_same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
