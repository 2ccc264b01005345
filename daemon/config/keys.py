"""The keys that a model of settings has.

Knows no single setting; the model is an argument.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

KeyPath = tuple[str, ...]


class KeyIndex:
    """All keys of a settings model, dotted (``queue.retry.max_seconds``).

    Args:
        root: the model; its fields are the sections.
        prefix: the prefix of environment variables.
    """

    def __init__(self, root: type[BaseModel], prefix: str) -> None:
        self.sections = tuple(root.model_fields)
        self.prefix = prefix
        self.fields: dict[str, list[FieldInfo]] = {}
        """The fields of each key; several if the kinds of a section share a key."""
        self._kinds: dict[str, str] = {}
        self._of_kind: dict[tuple[str, str], list[FieldInfo]] = {}
        for path, field in self._leaves(root, ()):
            self.fields.setdefault(".".join(path), []).append(field)

    def _leaves(
        self, section: type[BaseModel], above: KeyPath
    ) -> Iterator[tuple[KeyPath, FieldInfo]]:
        for name, field in section.model_fields.items():
            inner = [
                kind
                for kind in alternatives(field.annotation)
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            ]
            if isinstance(field.discriminator, str):
                self._kinds[".".join((*above, name))] = field.discriminator
            for kind in inner:
                leaves = list(self._leaves(kind, (*above, name)))
                if isinstance(field.discriminator, str):
                    (word,) = get_args(kind.model_fields[field.discriminator].annotation)
                    for path, leaf in leaves:
                        self._of_kind.setdefault((".".join(path), str(word)), []).append(leaf)
                yield from leaves
            if not inner:
                yield (*above, name), field

    def variable(self, key: str) -> str:
        """The environment variable of a key."""
        return self.prefix + key.upper().replace(".", "__")

    def discriminator(self, key: str) -> str | None:
        """The key that selects the kind of a section; None if there is only one kind."""
        return self._kinds.get(key)

    def field(self, key: str, kinds: Iterable[object] = ()) -> FieldInfo | None:
        """The field of a key. If kinds share it, that of the first of `kinds` that has it."""
        found = (self._of_kind.get((key, str(kind))) for kind in kinds)
        # of the kinds of a section within, the last
        return next(
            (fields[-1] for fields in found if fields), next(iter(self.fields.get(key, ())), None)
        )

    def is_section(self, key: str) -> bool:
        return any(known.startswith(f"{key}.") for known in self.fields)

    def accepts(self, path: KeyPath) -> bool:
        """Whether a path is a key or an entry of a mapping such as ``target.headers``."""
        return ".".join(path) in self.fields or self.holds(".".join(path[:-1]), Mapping)

    def holds(self, key: str, kind: type) -> bool:
        """Whether the value of a key is a collection of this kind (tuple, mapping, …)."""
        return any(
            get_origin(member) is kind
            for field in self.fields.get(key, ())
            for member in alternatives(field.annotation)
        )

    def may_be_unset(self, key: str) -> bool:
        """Whether a key may be empty: null, or a mapping without entries."""
        fields = self.fields.get(key, ())
        return self.holds(key, Mapping) or any(
            type(None) in alternatives(field.annotation) for field in fields
        )

    def is_secret(self, key: str) -> bool:
        return any(_mentions(field.annotation, SecretStr) for field in self.fields[key])

    def words(self, key: str, kinds: Iterable[object] = ()) -> list[str]:
        """The allowed values of a key with a closed set of them, within the first of `kinds` that
        has it.
        """
        found = (self._of_kind.get((key, str(kind))) for kind in kinds)
        fields = next(filter(None, found), self.fields[key])
        return [str(word) for field in fields for word in get_args(field.annotation)]

    def unknown(self, key: str) -> str:
        """The error text for an unknown key. It never contains the value, which may be a secret
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


def alternatives(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - annotations have no common type
    """The alternatives of a union, or the annotation itself, without `Annotated`."""
    members = (
        get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    )
    return tuple(
        get_args(member)[0] if get_origin(member) is Annotated else member for member in members
    )


def _mentions(annotation: Any, wanted: type) -> bool:  # noqa: ANN401 - as alternatives
    return annotation is wanted or any(_mentions(inner, wanted) for inner in get_args(annotation))
