"""Where settings come from: a YAML file, secret files and environment variables, laid over each
other, and what is wrong in them.

Knows nothing of any one setting; the model of the settings is handed in.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

KeyPath = tuple[str, ...]


class KeyIndex:
    """Every key that a model of settings has, dotted (``queue.retry.max_seconds``).

    Args:
        root: the model; its fields are the sections.
        prefix: what environment variables begin with.
    """

    def __init__(self, root: type[BaseModel], prefix: str) -> None:
        self.sections = tuple(root.model_fields)
        self.prefix = prefix
        self.fields: dict[str, list[FieldInfo]] = {}
        """The field behind each key; several where the kinds of a section share a key."""
        self._kinds: dict[str, str] = {}
        self._of_kind: dict[tuple[str, str], FieldInfo] = {}
        for path, field in self._leaves(root, ()):
            self.fields.setdefault(".".join(path), []).append(field)

    def _leaves(
        self, section: type[BaseModel], above: KeyPath
    ) -> Iterator[tuple[KeyPath, FieldInfo]]:
        for name, field in section.model_fields.items():
            inner = [
                kind
                for kind in _members(field.annotation)
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            ]
            if isinstance(field.discriminator, str):
                self._kinds[".".join((*above, name))] = field.discriminator
            for kind in inner:
                leaves = list(self._leaves(kind, (*above, name)))
                if isinstance(field.discriminator, str):
                    (word,) = get_args(kind.model_fields[field.discriminator].annotation)
                    self._of_kind |= {(".".join(path), str(word)): leaf for path, leaf in leaves}
                yield from leaves
            if not inner:
                yield (*above, name), field

    def variable(self, key: str) -> str:
        """The environment variable of a key."""
        return self.prefix + key.upper().replace(".", "__")

    def discriminator(self, key: str) -> str | None:
        """The name of the key that tells the kind of a section that comes in several."""
        return self._kinds.get(key)

    def field(self, key: str, kinds: Iterable[object] = ()) -> FieldInfo | None:
        """The field behind a key; where kinds of a section share the key, that of the first of some
        kinds that has it.
        """
        found = (self._of_kind.get((key, str(kind))) for kind in kinds)
        return next(
            (field for field in found if field is not None),
            next(iter(self.fields.get(key, ())), None),
        )

    def is_section(self, key: str) -> bool:
        return any(known.startswith(f"{key}.") for known in self.fields)

    def accepts(self, path: KeyPath) -> bool:
        """Whether a value may stand at a path: a key, or an entry of a mapping such as
        ``target.headers``.
        """
        return ".".join(path) in self.fields or self.holds(".".join(path[:-1]), Mapping)

    def holds(self, key: str, kind: type) -> bool:
        """Whether the value of a key is a tuple, a mapping, … of things."""
        return any(
            get_origin(member) is kind
            for field in self.fields.get(key, ())
            for member in _members(field.annotation)
        )

    def may_be_unset(self, key: str) -> bool:
        """Whether a key has an empty value of its own: null, or a mapping without entries."""
        fields = self.fields.get(key, ())
        return self.holds(key, Mapping) or any(
            type(None) in _members(field.annotation) for field in fields
        )

    def is_secret(self, key: str) -> bool:
        return any(_mentions(field.annotation, SecretStr) for field in self.fields[key])

    def words(self, key: str) -> list[str]:
        """The words that a key with a closed set of them takes."""
        return [str(word) for field in self.fields[key] for word in get_args(field.annotation)]

    def unknown(self, key: str) -> str:
        """What is said of a key that does not exist. Its value is never said: it may be a secret
        under a misspelt key.
        """
        section = key.rpartition(".")[0]
        sections = {
            known.rsplit(".", depth)[0]
            for known in self.fields
            for depth in range(1, known.count(".") + 1)
        }
        beside = [known for known in self.fields if known.rpartition(".")[0] == section]
        for candidates in (beside, [*self.fields, *sections]):
            if near := difflib.get_close_matches(key, candidates, n=1, cutoff=0.5):
                return f"is an unknown key; did you mean {near[0]}?"
        return f"is an unknown key; sections are {', '.join(self.sections)}"


def _members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - what typing makes of an annotation has no common type
    """The alternatives of a union, or the annotation itself, without what is annotated on them."""
    members = (
        get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    )
    return tuple(
        get_args(member)[0] if get_origin(member) is Annotated else member for member in members
    )


def _mentions(annotation: Any, wanted: type) -> bool:  # noqa: ANN401 - as _members
    return annotation is wanted or any(_mentions(inner, wanted) for inner in get_args(annotation))


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    source: str


class Layers:
    """The values given, by key, later layers over earlier ones, and the problems found, one line
    each.
    """

    def __init__(self, index: KeyIndex) -> None:
        self.index = index
        self.problems: list[str] = []
        self._given: dict[KeyPath, _Given] = {}

    def put(self, path: KeyPath, value: Any, source: str) -> None:  # noqa: ANN401 - whatever was given; checked later
        self._given[path] = _Given(value, source)

    def put_text(self, path: KeyPath, text: str, source: str) -> None:
        """Puts a value that came as text, from a variable or a secret file. Lists are JSON or
        separated by commas.
        """
        key = ".".join(path)
        if not text and self.index.may_be_unset(key):
            return  # an empty variable is how a template says "not set"
        if self.index.holds(key, tuple) and text:
            self._put_list(path, text, source)
        elif self.index.holds(key, Mapping):
            self._put_mapping(path, text, source)
        else:
            self.put(path, text, source)

    def _put_list(self, path: KeyPath, text: str, source: str) -> None:
        if not text.lstrip().startswith("["):
            self.put(path, [item.strip() for item in text.split(",")], source)
            return
        try:
            self.put(path, json.loads(text), source)
        except (ValueError, RecursionError):
            self.problem(
                ".".join(path), "must be a JSON list, or values separated by commas", source
            )

    def _put_mapping(self, path: KeyPath, text: str, source: str) -> None:
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, dict):
            self.problem(".".join(path), 'must be a JSON object, {"name": "value"}', source)
            return
        for name, value in entries.items():
            self.put((*path, name.lower()), value, source)

    def problem(self, key: str, text: str, source: str = "", *, shown: str = "") -> None:
        """Adds a line.

        Args:
            key: what is wrong, dotted.
            text: why, and what is allowed; continues "key = value:".
            source: where the value came from.
            shown: the value, where it may be shown.
        """
        line = (
            key
            + (f" = {shown}" if shown else "")
            + f": {text}"
            + (f" ({source})" if source else "")
        )
        self.problems.append(" ".join(line.split()))

    def has(self, path: KeyPath) -> bool:
        return path in self._given

    def value_at(self, path: KeyPath) -> object:
        return self._given[path].value if path in self._given else None

    def source_of(self, path: KeyPath) -> str:
        """Where a value came from; of a whole section, where the first value in it came from."""
        return next(
            (given.source for known, given in self._given.items() if known[: len(path)] == path), ""
        )

    def tree(self) -> dict[str, Any]:
        """All values as nested mappings, every section there."""
        root: dict[str, Any] = {section: {} for section in self.index.sections}
        for path, given in self._given.items():
            at = root
            for name in path[:-1]:
                at = at.setdefault(name, {})
            at[path[-1]] = given.value
        return root

    def explain(self, error: ErrorDetails) -> None:
        """Adds the line for one of pydantic's errors.

        An error of type ``refused`` brings its own text, and in ``ctx["key"]`` perhaps the name of
        a key below the checked one.
        """
        path, context = self._path_of(error["loc"]), error.get("ctx", {})
        key = ".".join(path)
        match error["type"]:
            case "missing":
                self.problem(
                    key,
                    f"is required; set it in the file or as variable {self.index.variable(key)}",
                )
            case "union_tag_not_found":
                key = f"{key}.{self.index.discriminator(key)}"
                self.problem(
                    key,
                    f"is required, one of {', '.join(self.index.words(key))}",
                    self.source_of(path),
                )
            case "union_tag_invalid":
                path = (*path, str(self.index.discriminator(key)))
                key = ".".join(path)
                allowed = f"must be one of {', '.join(self.index.words(key))}"
                self.problem(
                    key, allowed, self.source_of(path), shown=self._shown(key, self.value_at(path))
                )
            case "extra_forbidden":
                # Unknown keys never come this far: this one belongs to another kind of the same
                # section.
                kind = f"{'.'.join(path[:-1])}.{self.index.discriminator('.'.join(path[:-1]))}"
                self.problem(key, f"does not go with this {kind}", self.source_of(path))
            case "refused" if context.get("key"):
                path = (*path, str(context["key"]))
                key = ".".join(path)
                self.problem(
                    key,
                    error["msg"],
                    self.source_of(path),
                    shown=self._shown(key, self.value_at(path)),
                )
            case _ if self.index.holds(".".join(path[:-1]), tuple):
                key = ".".join(path[:-1])
                shown = self._shown(key, error["input"])
                self.problem(
                    f"{key}[{path[-1]}]",
                    self._allowed(key, error),
                    self.source_of(path[:-1]),
                    shown=shown,
                )
            case _:
                shown = self._shown(key, self.value_at(path))
                self.problem(key, self._allowed(key, error), self.source_of(path), shown=shown)

    def _path_of(self, location: Sequence[int | str]) -> KeyPath:
        """The path of an error, without the kind that pydantic puts behind the name of a section
        that comes in several.
        """
        path: list[str] = []
        behind_kinds = False
        for part in location:
            if not behind_kinds:
                path.append(str(part))
            behind_kinds = not behind_kinds and self.index.discriminator(".".join(path)) is not None
        return tuple(path)

    def _shown(self, key: str, value: object) -> str:
        """A bad value as it may be shown: nothing of secrets, of whole sections, and of addresses
        that may carry a secret.
        """
        if (
            key not in self.index.fields
            or self.index.is_secret(key)
            or not isinstance(value, str | int | float | Path)
        ):
            return ""
        if key.endswith(("url", "host")) and re.search(r"[@?#]", str(value)):
            return ""
        if key.endswith("username") and ":" in str(value):  # user and password, as curl takes them
            return ""
        text = repr(value) if isinstance(value, str) else str(value)
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"

    def _allowed(self, key: str, error: ErrorDetails) -> str:
        """What may stand there, in words that continue "key = value:"."""
        if error["type"] == "refused":
            return error["msg"]
        field = self.index.field(key, error["loc"])
        bounds = {type(item): item for item in field.metadata} if field else {}
        if field and Ge in bounds and Le in bounds:
            number = "a whole number" if int in _members(field.annotation) else "a number"
            return f"must be {number} from {bounds[Ge].ge} to {bounds[Le].le}"
        return _ALLOWED.get(error["type"]) or re.sub(r"^\w+ should ", "must ", error["msg"])


_ALLOWED = {
    "string_type": "must be text (in YAML: put it in quotes)",
    "tuple_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
"""In place of pydantic's words for some types of error."""

_SHOWN_CHARACTERS = 100


def read_file(path: Path, layers: Layers) -> bool:
    """Reads a YAML file into layers.

    Returns:
        False when the file as a whole cannot be read; the one problem says why.
    """
    try:
        node, values = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        layers.problem(f"configuration file {path}", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        layers.problem(f"configuration file {path}", "is not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        layers.problem(f"configuration file {path}", f"is not valid YAML{_complaint(error)}")
    except (yaml.YAMLError, ValueError, RecursionError):
        # ValueError: a date like 2024-13-45. Its text is left out, as it may repeat the value.
        layers.problem(
            f"configuration file {path}",
            "is not valid YAML: characters, dates, numbers or nesting out of range",
        )
    else:
        if values is None:  # nothing in it but comments
            return True
        if isinstance(node, yaml.MappingNode):
            _FileReader(path, layers).section((), node, values)
            return True
        layers.problem(
            f"configuration file {path}", "must be a mapping of sections, like queue: {url: …}"
        )
    return False


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    # Parsed twice: constructing the values merges "<<" into the nodes, which then look like keys
    # given twice.
    return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def _complaint(error: yaml.MarkedYAMLError) -> str:
    """What YAML says, without the names of aliases and tags: a secret that begins with * or ! is
    taken for one.
    """
    mark = error.problem_mark or error.context_mark
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = re.sub(r"'(?!<)[^']{2,}'", "…", error.problem or "")
    return f"{where}: {said}"


class _FileReader:
    """Walks the parsed file beside its nodes, which know the lines."""

    def __init__(self, path: Path, layers: Layers) -> None:
        self._path = path
        self._layers = layers
        self._index = layers.index

    def section(self, above: KeyPath, node: yaml.Node | None, values: Mapping[Any, Any]) -> None:
        """Takes over a section.

        Args:
            above: its path.
            node: None where it came through an alias or a merge and has no lines of its own.
            values: its keys and values as YAML reads them.
        """
        nodes: dict[str, tuple[yaml.Node, int]] = {}
        for name_node, value_node in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = str(name_node.value), name_node.start_mark.line + 1
            if name in nodes:
                lines = f"line {nodes[name][1]} and line {line}"
                self._layers.problem(
                    ".".join((*above, name)), "is given twice", f"file {self._path}, {lines}"
                )
            nodes[name] = value_node, line
        for name, value in values.items():
            value_node, line = nodes.get(str(name), (None, 0))
            self._entry(
                (*above, str(name)),
                value_node,
                value,
                f"file {self._path}" + (f", line {line}" if line else ""),
            )

    def _entry(self, path: KeyPath, node: yaml.Node | None, value: Any, source: str) -> None:  # noqa: ANN401 - YAML data
        key = ".".join(path)
        with_entries = self._index.is_section(key) or self._index.holds(key, Mapping)
        if not with_entries and not self._index.accepts(path):
            self._layers.problem(key, self._index.unknown(key), source)
        elif value is None:
            pass  # null, or "key:" with nothing behind it: the default
        elif with_entries and isinstance(value, Mapping):
            self.section(path, node, value)
        elif with_entries:
            self._layers.problem(key, "must be a mapping of keys", source)
        elif key in self._index.fields:
            self._layers.put(path, value, source)
        else:
            entry = (*path[:-1], path[-1].lower())
            if self._layers.has(entry):
                self._layers.problem(
                    key, "is given twice (upper and lower case do not count)", source
                )
            self._layers.put(entry, value, source)


def read_secret_files(directory: Path, layers: Layers) -> None:
    """Reads the files named ``<section>__<key>``. Others are somebody else's and ignored, as is a
    missing directory.
    """
    try:
        entries = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        layers.problem(
            f"directory of secret files {directory}", f"cannot be read: {error.strerror}"
        )
        return
    for entry in entries:
        path = tuple(entry.name.split("__"))
        if not layers.index.accepts(path) or entry.is_dir():
            continue
        source = f"secret file {entry}"
        try:
            text = entry.read_text(encoding="utf-8")
        except OSError as error:
            layers.problem(".".join(path), f"cannot be read: {error.strerror}", source)
        except UnicodeDecodeError:
            layers.problem(".".join(path), "is not UTF-8 text", source)
        else:
            known = ".".join(path) in layers.index.fields
            layers.put_text(
                path if known else (*path[:-1], path[-1].lower()), text.rstrip("\r\n"), source
            )


def read_variables(environ: Mapping[str, str], layers: Layers) -> None:
    """Reads the variables ``<PREFIX><SECTION>__<KEY>``, in any case.

    Those without ``__`` are not ours: Kubernetes sets ``<PREFIX>PORT`` and the like for a service
    of that name.
    """
    index = layers.index
    seen: dict[str, str] = {}
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith(index.prefix) or "__" not in name:
            continue
        path = tuple(name.removeprefix(index.prefix).lower().split("__"))
        key, source = ".".join(path), f"variable {variable}"
        if name in seen:
            layers.problem(
                key,
                f"is given twice, also as {seen[name]} (upper and lower case do not count)",
                source,
            )
        elif index.accepts(path):
            layers.put_text(path, environ[variable], source)
        elif index.is_section(key):
            example = next(known for known in index.fields if known.startswith(f"{key}."))
            layers.problem(
                key,
                f"has keys of its own; set them one by one, like {index.variable(example)}",
                source,
            )
        else:
            layers.problem(key, index.unknown(key), source)
        seen[name] = variable
