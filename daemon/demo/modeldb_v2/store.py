"""What the ModelDB V2 stand-in keeps: projects, experiments and runs in memory, with the indices
that its hot calls need.

Like the real server (watched on 2.0.8.1 with PostgreSQL): no constraint keeps names unique, deletes
only mark, a name is free again at once, deleting a project or an experiment does not touch what is
in it. `check_columns` says what the database would not take.
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2.messages import NOT_FOUND, UNKNOWN, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

MARK = "sagemaker_training_job_arn"
"""The attribute by which runs are indexed, because clients search the whole server for it."""

Row = dict[str, Any]
"""An entity as the API prints it."""


@dataclass(slots=True, eq=False)
class Entity:
    """A row, and what the API does not show of it."""

    row: Row
    serial: int
    """Orders what was inserted within one millisecond."""
    deleted: bool = False
    keys: list[tuple[str, Hashable]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.row["id"])


class Table:
    """Entities by id, and the live ones by whatever they are looked up by.

    Args:
        indices: for each index, the keys under which a row is to be found.
    """

    def __init__(self, **indices: Callable[[Row], Iterable[Hashable]]) -> None:
        self._indices = indices
        self._entities: dict[str, Entity] = {}
        self._live: dict[str, Entity] = {}
        self._found: dict[tuple[str, Hashable], dict[str, Entity]] = {}
        self._serials = itertools.count()

    def insert(self, row: Row) -> Entity:
        entity = Entity(row, next(self._serials))
        self._entities[entity.id] = self._live[entity.id] = entity
        self._enter(entity)
        return entity

    def delete(self, entity: Entity) -> None:
        """Marks it as deleted: it stays under its id."""
        entity.deleted = True
        self._live.pop(entity.id, None)
        self._leave(entity)

    def updated(self, entity: Entity) -> None:
        """To be called after a change of a row: updates its index entries and its date."""
        entity.row["date_updated"] = now()
        if not entity.deleted and entity.keys != self._keys(entity.row):
            self._leave(entity)
            self._enter(entity)

    def by_id(self, entity_id: str) -> Entity | None:
        """Also a deleted one."""
        return self._entities.get(entity_id)

    def live(self, entity_id: str) -> Entity | None:
        return self._live.get(entity_id)

    def all_live(self) -> Iterator[Entity]:
        """In the order of their creation."""
        return iter(self._live.values())

    def find(self, index: str, key: Hashable) -> list[Entity]:
        """The live ones under a key, in the order in which they came under it."""
        return list(self._found.get((index, key), {}).values())

    def _keys(self, row: Row) -> list[tuple[str, Hashable]]:
        return [(name, key) for name, keys in self._indices.items() for key in keys(row)]

    def _enter(self, entity: Entity) -> None:
        entity.keys = self._keys(entity.row)
        for key in entity.keys:
            self._found.setdefault(key, {})[entity.id] = entity

    def _leave(self, entity: Entity) -> None:
        for key in entity.keys:
            under = self._found.get(key, {})
            under.pop(entity.id, None)
            if not under:
                self._found.pop(key, None)
        entity.keys = []


class Store:
    """All of the server's data."""

    def __init__(self) -> None:
        self.projects = Table(name=lambda row: [row["name"]])
        self.experiments = Table(
            name=lambda row: [(row["project_id"], row["name"])],
            project=lambda row: [row["project_id"]],
        )
        self.runs = Table(
            name=lambda row: [(row["experiment_id"], row["name"])],
            experiment=lambda row: [row["experiment_id"]],
            project=lambda row: [row["project_id"]],
            mark=_marks,
        )

    def project(self, project_id: str) -> Entity:
        """Raises `ApiError` for an unknown or deleted one."""
        found = self.projects.live(project_id)
        if found is None:
            raise ApiError(NOT_FOUND, "Project not found for given ID")
        return found

    def experiment(self, experiment_id: str) -> Entity:
        """Raises `ApiError` for an unknown or deleted one, and for one of a deleted project."""
        found = self.experiments.live(experiment_id)
        if found is None:
            raise ApiError(NOT_FOUND, f"Experiment not found for given ID : {experiment_id}")
        self.project(found.row["project_id"])
        return found

    def run(self, run_id: str) -> Entity:
        """Also a deleted one, as for calls that log and update; `ApiError` for an unknown one."""
        found = self.runs.by_id(run_id)
        if found is None:
            raise ApiError(NOT_FOUND, f"ExperimentRun not found for given ID : {run_id}")
        self.project(found.row["project_id"])
        return found

    def has_parents(self, run: Entity) -> bool:
        """Whether neither the run's experiment nor its project is deleted."""
        row = run.row
        return bool(
            self.experiments.live(row["experiment_id"]) and self.projects.live(row["project_id"])
        )


def _marks(row: Mapping[str, Any]) -> Iterator[str]:
    return (
        attribute["value"]
        for attribute in row.get("attributes", ())
        if attribute.get("key") == MARK and isinstance(attribute.get("value"), str)
    )


def now() -> str:
    """The server's clock: epoch milliseconds."""
    return str(time.time_ns() // 1_000_000)


def new_id() -> str:
    return str(uuid.uuid4())


KEY_VALUE_LISTS = ("attributes", "hyperparameters", "metrics")
ARTIFACT_LISTS = ("artifacts", "datasets")

_SHORT_CHARACTERS = 255
_EXTENSION_CHARACTERS = 50
_INDEXED_BYTES = 2690
_LEAST_SAVING = 0.4
# characters, of which none is longer than 6 bytes, and two quotes
_SURELY_FITS = _INDEXED_BYTES // 8
_ESCAPED_BY_GSON = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&='"})


def check_columns(row: Mapping[str, Any]) -> None:
    """Refuses what the tables of the real server do not take.

    U+0000 in a text column; names above 255 characters, and the shorter columns; keys of metrics,
    hyperparameters and attributes, and values of metrics and hyperparameters, that are too big for
    an index.

    Raises:
        ApiError: code 2 with no text, as the server reports its own uncaught exceptions.
    """
    for text, limit in _texts(row):
        check_text(text, limit)
    for name in KEY_VALUE_LISTS:
        for item in row.get(name, ()):
            _check_key_value(item, value_is_indexed=name != "attributes")
    for name in ARTIFACT_LISTS:
        for item in row.get(name, ()):
            _check_artifact(item)
    for item in row.get("observations", ()):
        _check_key_value(item.get("attribute", {}), value_is_indexed=True)
        _check_artifact(item.get("artifact", {}))


def _texts(row: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """The plain texts of a row, each with its column's limit in characters; None: no limit."""
    for name in ("name", "code_version", "parent_id"):
        yield row.get(name, ""), _SHORT_CHARACTERS
    for name in ("description", "readme_text"):
        yield row.get(name, ""), None
    for tag in row.get("tags", ()):
        yield tag, None
    for feature in row.get("features", ()):
        yield feature.get("name", ""), None
    git = row.get("code_version_snapshot", {}).get("git_snapshot", {})
    for name in ("repo", "hash"):
        yield git.get(name, ""), _SHORT_CHARACTERS


def check_text(text: str, limit: int | None = None) -> None:
    """Raises `ApiError` as `check_columns` does, for a text that the column does not take."""
    if "\0" in text or (limit is not None and len(text) > limit):
        raise ApiError(UNKNOWN)


def _check_artifact(artifact: Mapping[str, Any]) -> None:
    for name in ("key", "path"):
        check_text(artifact.get(name, ""))
    check_text(artifact.get("linked_artifact_id", ""), _SHORT_CHARACTERS)
    check_text(artifact.get("filename_extension", ""), _EXTENSION_CHARACTERS)


def _check_key_value(item: Mapping[str, Any], *, value_is_indexed: bool) -> None:
    key = item.get("key", "")
    check_text(key)
    if len(key) > _SURELY_FITS:
        _check_index_entry(key)
    value = item.get("value") if value_is_indexed else None
    if isinstance(value, list | dict) or (isinstance(value, str) and len(value) > _SURELY_FITS):
        # The column holds JSON as Gson prints it, which spells out what could be HTML.
        _check_index_entry(json.dumps(value, ensure_ascii=False).translate(_ESCAPED_BY_GSON))


def _check_index_entry(text: str) -> None:
    """PostgreSQL compresses an entry (pglz) before it is too big for a page.

    Deflate without Huffman codes comes within 1 % of pglz for random text and for words (measured
    on the real server: 2690 random characters pass and 5500 of words). pglz keeps an entry as it is
    that would not become a quarter smaller, and misses short repetitions that deflate finds (JSON
    full of numbers): hence the greater saving that is asked for here.
    """
    plain = text.encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_FIXED)
    packed = len(deflate.compress(plain)) + len(deflate.flush())
    if (
        min(len(plain), packed if packed <= (1 - _LEAST_SAVING) * len(plain) else len(plain))
        > _INDEXED_BYTES
    ):
        raise ApiError(UNKNOWN)
