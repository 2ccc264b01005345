"""The alphabet and the lengths of names and values in MLflow, and its databases' columns."""

from __future__ import annotations

import json
import posixpath
import re
import urllib.parse
from typing import TYPE_CHECKING

from daemon.demo.mlflow.replies import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    ServerError,
    invalid,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_KEY = 250
MAX_PARAM_VALUE = 6_000
MAX_TAG_VALUE = 8_000
MAX_EXPERIMENT_NAME = 500
MAX_DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575}
MAX_INPUT_TAG = {"key": 255, "value": 500}

_NAME = re.compile(r"^[/\w.\- :]*$")
_RUN_ID = re.compile(r"^[a-zA-Z0-9][\w\-]{0,255}$")
_ALPHABET = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), "
    "colon(:) and slashes (/)."
)


def invalid_value(path: str, value: str, problem: str = "") -> ServerError:
    printed = json.dumps(value, sort_keys=True, separators=(",", ":"))
    end = f": {problem}" if problem else "."
    return invalid(f"Invalid value {printed} for parameter '{path}' supplied{end}")


def _resolves_elsewhere(name: str) -> bool:
    resolved = posixpath.normpath(name)
    return resolved != name or resolved == "." or resolved.startswith(("..", "/"))


def _path_problem(name: str) -> str:
    return (
        "Names may be treated as files in certain cases, and must not resolve to other names when "
        f"treated as such. This name would resolve to {posixpath.normpath(name)!r}"
    )


def check_key(key: str, path: str) -> None:
    """The alphabet of keys of params, metrics and tags."""
    if not _NAME.match(key):
        raise invalid_value(path, key, _ALPHABET)
    if _resolves_elsewhere(key):
        raise invalid_value(path, key, _path_problem(key))


def check_length(what: str, limit: int, value: str) -> None:
    if len(value) > limit:
        raise invalid(f"'{what}' exceeds the maximum length of {limit} characters")


def check_run_id(run_id: str) -> None:
    if not _RUN_ID.match(run_id):
        raise invalid_value("run_id", run_id)


def check_model_name(name: str, *, strict: bool) -> None:
    """The name of a registered model; 2.x is not `strict`."""
    if not (name.strip() if strict else name):
        raise invalid("Missing value for required parameter 'name'.")
    if not strict:
        return
    if "/" in name or ":" in name:
        raise invalid(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if _resolves_elsewhere(name):
        raise invalid_value("name", name, _path_problem(name))


def check_source(source: str, run_id: str, *, strict: bool) -> None:
    """Where a model version comes from: an absolute URI with a path; 3.x takes no web address."""
    parts = urllib.parse.urlparse(source)
    scheme = parts.scheme.lower()
    if strict and scheme in _HOST_SCHEMES:
        raise invalid(
            f"'source' cannot use the '{scheme}' scheme: the '{scheme}' scheme addresses a host "
            "other than the tracking server's configured artifact storage, so the server would "
            "connect to the host named in the URI. Set the "
            "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES environment variable on the server to "
            "allow it."
        )
    if not parts.scheme or parts.scheme == "file":
        raise invalid(
            f"Invalid model version source: '{source}'. To use a local path as a model version "
            "source, the run_id request parameter has to be specified and the local path has to be "
            "contained within the artifact directory of the run specified by the run_id."
        )
    whole = source
    while (unquoted := urllib.parse.unquote_plus(whole)) != whole:
        whole = unquoted
    path = re.sub(r"/+", "/", urllib.parse.urlparse(whole).path.rstrip("/"))
    if (
        "\x00" in path
        or ".." in whole.split("/")
        or not path.startswith("/")
        or posixpath.normpath(path) != path
    ):
        raise invalid(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, "
            "local file path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be "
            "provided without relative path references present. Please provide an absolute path."
        )
    of_run = scheme == "runs" and run_id and path.split("/")[1] == run_id
    if strict and scheme in _OWN_SCHEMES and not of_run:
        raise invalid(
            f"Invalid model version source: '{source}'. The run_id request parameter must identify "
            "the resource that contains the source."
        )


_HOST_SCHEMES = {"http", "https", "ftp", "sftp"}
_OWN_SCHEMES = {"runs", "models", "mlflow-artifacts"}


class Columns:
    """What the database takes of a text. SQLite takes all.

    Args:
        postgresql: PostgreSQL's limits apply.
    """

    def __init__(self, *, postgresql: bool) -> None:
        self._limited = postgresql

    def check(self, texts: Iterable[tuple[str, int]], *, in_batch: bool = False) -> None:
        """Raises `ServerError` for the first text that is longer than its column, or has NUL.

        Args:
            texts: each with its column's length.
            in_batch: in ``log-batch`` and ``log-inputs``, which report every such error as their
                own.
        """
        if not self._limited:
            return
        for value, limit in texts:
            if "\x00" in value:
                problem = "A string literal cannot contain NUL (0x00) characters."
                raise ServerError(INTERNAL_ERROR, problem)
            if len(value) > limit:
                raise ServerError(
                    INTERNAL_ERROR if in_batch else BAD_REQUEST,
                    "(psycopg2.errors.StringDataRightTruncation) value too long for type "
                    f"character varying({limit})\n",
                )
