"""Limits of MLflow: the lowest of its versions from 2.16 on and of their databases.

SQLite stores text of any length, PostgreSQL and MySQL refuse what their columns cannot hold with a
`400 BAD_REQUEST`, and the server itself cuts values without a word, so nothing over a limit may
ever be sent.

Lengths are in UTF-16 units. The server's own checks, SQLite, PostgreSQL and MySQL count code
points, SQL Server counts UTF-16 units, of which a text has at least as many: what fits measured
like this fits everywhere.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING

from daemon.targets.names import beginning, digest, shortened_name, utf16_units, without_accents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.targets.mlflow.entities import MetricPoint

EXPERIMENT_NAME = 256
"""The server's own check allows 500, the databases' column does not."""
RUN_NAME = 250
MODEL_NAME = 256
KEY = 250
"""Of a param, metric or tag, prefix included."""
CLEAN_KEY = 220
"""The same without a prefix and the hash of `distinct_keys`."""
PARAM_VALUE = 6000
TAG_VALUE = 5000
"""8000 since MLflow 2.17."""
TAGS = 1000
"""In one `runs/create`; GitLab's limit, MLflow itself has none."""
EXPERIMENT_TAG_VALUE = 5000
"""And of the tags of model versions; more since MLflow 3."""
DESCRIPTION = 5000
"""Of a registered model or a version."""
VERSION_SOURCE = 500
RUN_LINK = 500
DATASET_NAME = 500
DATASET_DIGEST = 36
DATASET_SOURCE_TYPE = 36
DATASET_SOURCE = 65_535
"""UTF-8 bytes, as MySQL counts in a column of this type."""
INPUT_TAG_VALUE = 500
PARAMS_PER_BATCH = 100
METRICS_PER_BATCH = 100
"""1000 by the server's check, but MLflow 2 refuses a repeated batch of more than 100."""

_NOT_IN_KEY = re.compile(" *(?:(?:[^\\w\\-. ]|[\U00010000-\U0010ffff]) *)+")
"""With spaces around it. MySQL's older collations take all characters beyond U+FFFF for one."""
_NOT_IN_MODEL_NAME = re.compile("[/:]")
_IN_S3 = re.compile(r"s3://[A-Za-z0-9._:-]+(?P<path>/.+)", re.DOTALL)
_LINKS_ON_SERVERS = frozenset({"bin", "lib", "lib32", "lib64", "libx32", "sbin"})
"""Directories at a server's root that usually are symbolic links."""


def clean_key(key: str) -> str:
    """A key that MLflow takes: letters and digits of any script, `_`, `-`, `.`, `/` and spaces.

    `:` becomes `/`, by which MLflow's pages group metrics: before 2.16 and on Windows servers it is
    refused. Other characters, with the spaces around them, become one `_`. Parts between two `/`
    are never empty or `.`, do not begin with `..`, and neither begin nor end with a space.
    """
    form = "/".join(map(_clean_part, key.replace(":", "/").split("/")))
    if len(form) <= CLEAN_KEY:
        return form
    return f"{form[: CLEAN_KEY - 13]}_{digest(key)}"


def _clean_part(part: str) -> str:
    clean = _NOT_IN_KEY.sub("_", part)
    clean = clean.strip(" ") if clean == part else clean.strip(" _")
    if clean.startswith(".."):
        return f"_{clean[2:]}"
    return "_" if clean in {"", "."} else clean


def equal_as(key: str) -> str:
    """What two keys have in common that MySQL or SQL Server takes for one: they ignore case, and
    MySQL accents, too.
    """
    return without_accents(without_accents(key).casefold())


def experiment_name(project: str, prefix: str = "") -> str:
    """The name of a project's experiment. With a prefix that is a path, as Databricks demands, the
    project is its last part.
    """
    if "/" in prefix and "/" in project:
        project = f"{project.replace('/', '-')}-{digest(project, 8)}"
    return shortened_name(prefix + project, EXPERIMENT_NAME)


def model_name(name: str) -> str:
    """The name of a registered model. `models:/NAME/VERSION` is a URI, so `/` and `:` become `-`;
    a name that changed gets a hash, so that models stay distinct.
    """
    clean = _NOT_IN_MODEL_NAME.sub("-", name).strip()
    if clean in {"", ".", ".."}:
        clean = "model"
    if clean != name:
        clean = f"{shortened_name(clean, MODEL_NAME - 9)}-{digest(name, 8)}"
    return shortened_name(clean, MODEL_NAME)


def dataset_name(name: str) -> str:
    """The name of a data set, with room for the hash of `distinct_keys`."""
    return shortened_name(name, DATASET_NAME - 9)


def fits(text: str, limit: int) -> bool:
    """Whether text has at most so many UTF-16 units."""
    return utf16_units(text) <= limit


def cut(text: str, limit: int) -> str:
    """Text of at most so many UTF-16 units; the last character of one that was cut is ``…``."""
    return text if fits(text, limit) else f"{beginning(text, limit - 1, utf16_units)}…"


def shortened_value(text: str, limit: int) -> str:
    """Text of at most so many UTF-16 units; a longer one keeps its beginning and gets a hash."""
    if fits(text, limit):
        return text
    mark = f"… [shortened, sha256 {digest(text)}]"
    return beginning(text, limit - len(mark), utf16_units) + mark


def unfit_source(uri: str) -> str | None:
    """Why a model version cannot have this source; None: it can.

    The server resolves the path of a source as if it were one of its own file system, and refuses a
    source whose path is another one then: one with `.` or `..`, also encoded, or one that begins
    with a symbolic link, such as `/bin`. Addresses other than those of S3 it refuses, or takes for
    its own.
    """
    if not uri.startswith("s3://"):
        return "it is not in S3"
    decoded = uri
    while (unquoted := urllib.parse.unquote_plus(decoded)) != decoded:
        decoded = unquoted
    if not fits(uri, VERSION_SOURCE):
        return f"its URI has more than {VERSION_SOURCE} characters"
    found = _IN_S3.fullmatch(decoded)
    path = re.split("[?#]", found["path"])[0] if found else ""
    parts = [part for part in path.split("/") if part]
    if not parts:
        return "its URI has no path"
    if parts[0] in _LINKS_ON_SERVERS or {".", ".."} & set(decoded.split("/")) or "\0" in decoded:
        return "MLflow refuses its path"
    return None


def batches(
    metrics: Sequence[MetricPoint], params: Mapping[str, str]
) -> Iterator[tuple[Sequence[MetricPoint], Mapping[str, str]]]:
    """Metrics and params in as few calls of `runs/log-batch` as can be repeated; none if there is
    nothing to log.
    """
    keys = list(params)
    calls = max(
        -(-len(metrics) // METRICS_PER_BATCH),
        -(-len(keys) // PARAMS_PER_BATCH),
    )
    for call in range(calls):
        of_metrics = call * METRICS_PER_BATCH
        of_params = call * PARAMS_PER_BATCH
        yield (
            metrics[of_metrics : of_metrics + METRICS_PER_BATCH],
            {key: params[key] for key in keys[of_params : of_params + PARAMS_PER_BATCH]},
        )
