"""Checks a dashboard against Grafana's published schema.

The schema is the one in ``grafana-foundation-sdk``, which Grafana generates from its own
definitions. Reading JSON into its classes drops unknown members and does not check types, so both
are checked here.
"""

from __future__ import annotations

import enum
import json
import warnings
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import UnknownDataquery, panelcfg_config

with warnings.catch_warnings():
    # a second form of dashboards is newer; every Grafana reads this one
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.models.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCALARS = {str: (str,), bool: (bool,), int: (int,), float: (int, float), NoneType: (NoneType,)}


def refusals(dashboard: Mapping[str, Any]) -> list[str]:
    """The violations of the schema in a dashboard, each with its place."""
    register_default_plugins()
    try:
        read = Dashboard.from_json(dict(dashboard))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"cannot be read: {error!r}"]
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    unknown_panels = [
        f"panels[{index}].type: {panel['type']} is no panel of Grafana itself"
        for index, panel in enumerate(dashboard["panels"])
        if panel["type"] != "row" and panelcfg_config(panel["type"]) is None
    ]
    return [*unknown_panels, *_lost(dashboard, written, ""), *_mistyped(Dashboard, read, "")]


def _lost(given: Any, written: Any, path: str) -> Iterator[str]:
    """The members of the JSON that are missing after it was read and written again."""
    if isinstance(given, dict) and isinstance(written, dict):
        for key, value in given.items():
            if key in written:
                yield from _lost(value, written[key], f"{path}.{key}")
            elif value is not None:
                yield f"{path}.{key}: unknown to the schema"
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        for index, (value, other) in enumerate(zip(given, written, strict=True)):
            yield from _lost(value, other, f"{path}[{index}]")
    elif given != written:
        yield f"{path}: {given!r} becomes {written!r}"


def _mistyped(hint: Any, value: Any, path: str) -> Iterator[str]:
    """Values of another type than the schema's."""
    if (origin := get_origin(hint)) is not None:
        yield from _OF_ORIGIN[origin](get_args(hint), value, path)
    elif hint in _SCALARS:
        if not isinstance(value, _SCALARS[hint]) or (isinstance(value, bool) and hint is not bool):
            yield f"{path}: {value!r} is no {hint.__name__}"
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield from _not_among(tuple(member.value for member in hint), value, path)
    elif isinstance(value, UnknownDataquery):
        yield f"{path}: a query of an unknown data source"
    else:
        yield from _mistyped_members(hint, value, path)


def _fits_none(options: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    findings = [list(_mistyped(option, value, path)) for option in options]
    if all(findings):
        yield from max(findings, key=_depth)


def _not_among(words: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    if value not in words:
        yield f"{path}: {value!r} is none of {words}"


def _mistyped_items(item_hint: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: {value!r} is no list"
        return
    for index, item in enumerate(value):
        yield from _mistyped(item_hint[0], item, f"{path}[{index}]")


def _mistyped_values(hints: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no object"
        return
    for key, item in value.items():
        yield from _mistyped(hints[1], item, f"{path}.{key}")


_OF_ORIGIN = {
    Union: _fits_none,
    UnionType: _fits_none,
    Literal: _not_among,
    list: _mistyped_items,
    dict: _mistyped_values,
}


def _depth(findings: list[str]) -> int:
    """How far into a value an annotation fitted: the option of a union that was meant fits
    farthest.
    """
    return max(finding.partition(": ")[0].count(".") for finding in findings)


def _mistyped_members(hint: Any, value: Any, path: str) -> Iterator[str]:
    """The same for the members of a class of the schema."""
    # the library leaves some members as they came
    if hasattr(hint, "from_json") and isinstance(value, dict):
        read = hint.from_json(value)
        yield from _lost(value, json.loads(json.dumps(read, cls=JSONEncoder)), path)
        value = read
    if hasattr(value, "to_json") and (hint in {object, Any} or isinstance(value, hint)):
        for name, member in get_type_hints(type(value)).items():
            if not isinstance(member, TypeVar):
                yield from _mistyped(member, getattr(value, name), f"{path}.{name}")
    elif hint not in {object, Any}:
        value = type(value).__name__ if hasattr(value, "to_json") else value
        yield f"{path}: {value!r} is no {getattr(hint, '__name__', hint)}"
