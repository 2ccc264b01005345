"""What is sent to MLflow for a job, checked against every rule of its servers. The numbers are
written down here once more, so that a wrong limit does not vouch for itself.
"""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG, MappedRun, map_run
from tests.support.modeldb_v2_rules import run_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from daemon.targets.mlflow.entities import DatasetInput, MetricPoint

_KEY = re.compile(r"[/\w.\- ]*")
"""The server's own pattern, without the `:` that Windows servers refuse."""
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
INT64 = 2**63


def mapped(**members: Any) -> MappedRun:
    """A job by members of its description, which breaks no rule."""
    result = map_run(run_of(**members))
    assert violations(result) == []
    return result


def violations(mapped: MappedRun) -> list[str]:
    """Every rule that a mapped run breaks."""
    return [*_run(mapped), *_metrics(mapped.metrics), *_inputs(mapped.inputs), *_model(mapped)]


def text_violations(what: str, text: object, limit: int) -> Iterator[str]:
    if type(text) is not str:
        yield f"{what} is {type(text)}"
        return
    if units(text) > limit:
        yield f"{what} of {units(text)} units"
    if _NO_TEXT.search(text):
        yield f"{what} cannot be stored: {text!r}"


def key_violations(what: str, keys: Iterable[str]) -> Iterator[str]:
    seen = set()
    for key in keys:
        yield from text_violations(what, key, 250)
        if not _KEY.fullmatch(key) or key != key.strip() or max(key) > "\uffff":
            yield f"{what} {key!r} has a character that is refused"
        if posixpath.normpath(key) != key or key in {".", ".."} or key.startswith(("/", "..")):
            yield f"{what} {key!r} is another path"
        folded = "".join(
            character
            for character in unicodedata.normalize("NFKD", key)
            if not unicodedata.combining(character)
        ).casefold()
        if folded in seen:
            yield f"{what} {key!r} is there already for MySQL"
        seen.add(folded)


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _run(mapped: MappedRun) -> Iterator[str]:
    yield from text_violations("experiment", mapped.experiment_name, 256)
    yield from text_violations("run", mapped.run_name, 250)
    yield from _values("experiment tag", mapped.experiment_tags, 5000)
    yield from _values("tag", mapped.tags, 5000)
    yield from _values("param", mapped.params, 6000)
    for name in (mapped.experiment_name, mapped.run_name):
        if not name.strip():
            yield "a name is blank"
    if list(mapped.tags)[:2] != [ARN_TAG, CREATION_TIME_TAG]:
        yield "the mark is not first"
    if len(mapped.tags) > 999:
        yield f"{len(mapped.tags)} tags"
    if "mlflow.runName" in mapped.tags:
        yield "the run's name is set by the server"
    if mapped.status not in {"FINISHED", "FAILED", "KILLED"}:
        yield f"status {mapped.status}"
    for time in (mapped.start_time, mapped.end_time):
        if type(time) is not int or abs(time) >= INT64:
            yield f"time {time!r}"


def _values(what: str, texts: Mapping[str, str], limit: int) -> Iterator[str]:
    yield from key_violations(what, texts)
    for key, value in texts.items():
        yield from text_violations(f"{what} {key}", value, limit)


def _metrics(points: Iterable[MetricPoint]) -> Iterator[str]:
    yield from key_violations("metric", dict.fromkeys(point.key for point in points))
    for point in points:
        if type(point.value) is not float or math.isinf(point.value):
            yield f"value {point.value!r}"
        if type(point.timestamp) is not int or not 0 <= point.timestamp < INT64:
            yield f"timestamp {point.timestamp!r}"
        if type(point.step) is not int or abs(point.step) >= INT64:
            yield f"step {point.step!r}"


def _inputs(inputs: Iterable[DatasetInput]) -> Iterator[str]:
    names = [unicodedata.normalize("NFKC", data.name).casefold() for data in inputs]
    if len(set(names)) != len(names):
        yield "data sets of one name"
    for data in inputs:
        yield from text_violations("data set", data.name, 500)
        yield from text_violations("digest", data.digest, 36)
        yield from text_violations("source type", data.source_type, 36)
        yield from text_violations("source", data.source, 65_535)
        yield from text_violations("context", data.context, 500)
        if not (data.name and data.digest and data.source_type and data.source):
            yield "a data set lacks a member"


def _model(mapped: MappedRun) -> Iterator[str]:
    model = mapped.model
    if model is None:
        return
    yield from text_violations("model", model.name, 256)
    if not model.name.strip() or {"/", ":"} & set(model.name) or model.name in {".", ".."}:
        yield f"model {model.name!r}"
    yield from text_violations("model description", model.description, 5000)
    yield from text_violations("version description", model.version_description, 5000)
    yield from text_violations("source of the version", model.source, 500)
    yield from text_violations("link", model.run_link or "", 500)
    yield from _values("version tag", model.tags, 5000)
    if not re.match(r"s3://[^/]+/[^/]", model.source):
        yield f"source {model.source!r}"
    if mapped.status != "FINISHED":
        yield "a version of a job that did not complete"
