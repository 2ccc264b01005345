"""Strategies: structs of ModelDB V1's interface, from the interface itself."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st
from thriftpy2.thrift import TType

from daemon.targets.modeldb_v1.codec import INTERFACE
from tests.property.texts import sendable_texts

_PLAIN: dict[int, st.SearchStrategy[Any]] = {
    TType.BOOL: st.booleans(),
    TType.BYTE: st.integers(-(2**7), 2**7 - 1),
    TType.I16: st.integers(-(2**15), 2**15 - 1),
    TType.I32: st.integers(-(2**31), 2**31 - 1),
    TType.I64: st.integers(-(2**63), 2**63 - 1),
    TType.DOUBLE: st.floats(),
    TType.STRING: sendable_texts(),
}


@functools.cache
def arguments(method: str) -> st.SearchStrategy[dict[str, Any]]:
    """What a method can be called with; some are not sent."""
    of_method = getattr(INTERFACE.ModelDBService, f"{method}_args")
    return st.fixed_dictionaries(
        {name: st.none() | _values(kind, of) for kind, name, of in _fields(of_method)},
    )


@functools.cache
def results(method: str) -> st.SearchStrategy[Any]:
    """What a method can answer with."""
    of_method = getattr(INTERFACE.ModelDBService, f"{method}_result")
    return next(_values(kind, of) for kind, name, of in _fields(of_method) if name == "success")


@functools.cache
def exceptions(method: str) -> st.SearchStrategy[Any]:
    """What a method can fail with; nothing, where it declares no exception."""
    of_method = getattr(INTERFACE.ModelDBService, f"{method}_result")
    return st.one_of(
        [_values(kind, of) for kind, name, of in _fields(of_method) if name != "success"]
    )


def _fields(struct: Any) -> list[tuple[int, str, Any]]:
    """Type, name and what the type is of. The last member of a field says only whether it is
    required.
    """
    return [
        (kind, name, rest[0] if len(rest) > 1 else None)
        for kind, name, *rest in struct.thrift_spec.values()
    ]


def _values(kind: int, of: Any) -> st.SearchStrategy[Any]:
    if kind == TType.STRUCT:
        return st.deferred(lambda: _structs(of))
    if kind in {TType.LIST, TType.SET}:
        return st.lists(_items(of), max_size=3)
    if kind == TType.MAP:
        key, item = of
        return st.dictionaries(_items(key), _items(item), max_size=3)
    return _PLAIN[kind]


def _items(side: Any) -> st.SearchStrategy[Any]:
    kind, of = (side, None) if isinstance(side, int) else side
    return _values(kind, of)


@st.composite
def _structs(draw: st.DrawFn, struct: Any) -> Any:
    """A struct. A field with a default is always set: unset, it would come back with that."""
    defaults = dict(struct.default_spec)
    made = struct()
    for kind, name, of in _fields(struct):
        if defaults.get(name) is not None or draw(st.integers(0, 4)):
            setattr(made, name, draw(_values(kind, of)))
    return made
