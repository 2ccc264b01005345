"""botocore's service models, reduced to the parts that this program uses.

SageMaker's parsed model takes 12 MB, of which four operations are used; DynamoDB's is the next
largest; the table of endpoints has 400 services. botocore reads both through
`botocore.loaders.Loader.file_loader`, which is replaced here by a loader that drops the rest while
it reads, because the process keeps memory even if it needed it only for a moment. What remains is
unchanged, so it follows botocore's releases.
"""

from __future__ import annotations

import gzip
import json
import marshal
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ijson
from botocore.loaders import JSONFileLoader, create_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from botocore.loaders import Loader

    _Opened = Callable[[], IO[bytes] | gzip.GzipFile]

OPERATIONS: Mapping[str, Collection[str]] = {
    "dynamodb": (
        *("CreateTable", "DeleteItem", "DescribeContinuousBackups", "DescribeTable"),
        *("DescribeTimeToLive", "GetItem", "PutItem", "Query", "UpdateContinuousBackups"),
        "UpdateTimeToLive",
    ),
    "sagemaker": (
        *("DescribeHyperParameterTuningJob", "DescribeTrainingJob"),
        *("ListTags", "ListTrainingJobs"),
    ),
}
"""The operations to keep, for services with large models. Other services keep all of theirs."""

ENDPOINTS = ("api.sagemaker", "dynamodb", "metrics.sagemaker", "sqs", "sts")
"""Endpoint prefixes of botocore's ``endpoints.json`` to keep; others use the partition's."""

MODEL_PARTS = frozenset({"version", "metadata", "operations", "shapes"})
"""What is kept of a large service model; all but its documentation."""

_OPENERS: Mapping[str, Callable[[Path], IO[bytes] | gzip.GzipFile]] = {
    ".json": lambda path: path.open("rb"),
    ".json.gz": gzip.GzipFile,
}


@cache
def lean_loader(search_path: str | None = None) -> Loader:
    """A botocore loader of reduced models, for a session's ``data_loader`` component. Each file is
    read once per process.

    Args:
        search_path: the session's ``data_path`` (``AWS_DATA_PATH``).
    """
    loader = create_loader(search_path)
    loader.file_loader = LeanFileLoader()
    return loader


class LeanFileLoader(JSONFileLoader):
    """Reads botocore's data files and drops what this program does not use."""

    def load_file(self, file_path: str) -> dict[str, Any] | None:
        """The content of a data file, or None if it does not exist.

        Args:
            file_path: without extension, as botocore passes it:
                ``…/sagemaker/2017-07-24/service-2``.
        """
        for ending, opened in _OPENERS.items():
            path = Path(file_path + ending)
            if path.is_file():
                return _lean(Path(file_path), partial(opened, path))
        return None


def _lean(path: Path, opened: _Opened) -> dict[str, Any]:
    if path.name == "service-2" and (used := OPERATIONS.get(path.parent.parent.name)) is not None:
        return _model_of(used, opened)
    with opened() as file:
        if path.name == "endpoints":
            return _our_endpoints(file)
        data = json.load(file)
    lean: dict[str, Any] = _without_documentation(data)
    return lean


def _our_endpoints(file: IO[bytes] | gzip.GzipFile) -> dict[str, Any]:
    """The table of endpoints, of which the other services are skipped while it is read."""
    builder = ijson.ObjectBuilder()
    kept = True
    for prefix, event, value in ijson.parse(file, use_float=True):
        if prefix == "partitions.item.services":
            kept = event != "map_key" or value in ENDPOINTS
        if kept:
            builder.event(event, value)
    return dict(builder.value)


def _model_of(used: Collection[str], opened: _Opened) -> dict[str, Any]:
    """A large service model, read member by member; shapes are kept packed until it is known which
    ones are used.
    """
    operations = {}
    for name, operation in _members(opened, "operations"):
        if name in used:
            operations[name] = _without_documentation(operation)
        if len(operations) == len(used):
            break
    every = {
        name: marshal.dumps(_without_documentation(shape))
        for name, shape in _members(opened, "shapes")
    }
    head = {name: next(_values(opened, name)) for name in MODEL_PARTS - {"operations", "shapes"}}
    return {**head, "operations": operations, "shapes": _reachable(operations, every)}


def _members(opened: _Opened, of: str) -> Iterator[tuple[str, Any]]:
    with opened() as file:
        yield from ijson.kvitems(file, of, use_float=True)


def _values(opened: _Opened, of: str) -> Iterator[Any]:
    with opened() as file:
        yield from ijson.items(file, of, use_float=True)


def _without_documentation(node: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        return {
            key: _without_documentation(value)
            for key, value in node.items()
            if key != "documentation" or not isinstance(value, str)
        }
    return [_without_documentation(item) for item in node] if isinstance(node, list) else node


def _reachable(operations: Mapping[str, Any], shapes: Mapping[str, bytes]) -> dict[str, Any]:
    """The shapes, of all marshalled ones, that the operations refer to, directly or indirectly."""
    wanted = list(_references(operations))
    found: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = marshal.loads(shapes[name])  # noqa: S302 - ours, of a moment ago
            wanted.extend(_references(found[name]))
    return found


def _references(node: object) -> Iterator[str]:
    """Every ``{"shape": name}`` below a node of a service model."""
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "shape" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
