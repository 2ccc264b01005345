"""botocore's service models, reduced to the parts that this program uses.

SageMaker's parsed model takes 12 MB, of which four operations are used; DynamoDB's is the next
largest; the table of endpoints has 400 services. botocore reads both through
`botocore.loaders.Loader.file_loader`, which is replaced here by a loader that drops the rest. What
remains is unchanged, so it follows botocore's releases.
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.loaders import JSONFileLoader, create_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from io import BufferedReader

    from botocore.loaders import Loader

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

_OPENERS: Mapping[str, Callable[[Path], BufferedReader | gzip.GzipFile]] = {
    ".json": lambda path: path.open("rb"),
    ".json.gz": gzip.GzipFile,
}


@functools.cache
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
                with opened(path) as file:
                    return _lean(
                        Path(file_path), json.load(file, object_pairs_hook=_without_documentation)
                    )
        return None


def _without_documentation(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        key: value for key, value in pairs if key != "documentation" or not isinstance(value, str)
    }


def _lean(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    if path.name == "endpoints":
        for partition in data["partitions"]:
            partition["services"] = {
                name: partition["services"][name]
                for name in ENDPOINTS
                if name in partition["services"]
            }
    elif path.name == "service-2" and (used := OPERATIONS.get(path.parent.parent.name)) is not None:
        data["operations"] = {name: data["operations"][name] for name in used}
        data["shapes"] = _reachable(data["operations"], data["shapes"])
    return data


def _reachable(operations: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes that the operations refer to, directly or indirectly."""
    wanted = list(_references(operations))
    found: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = shapes[name]
            wanted.extend(_references(shapes[name]))
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
