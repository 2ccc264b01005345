"""What ModelDB V2 makes of the observations of a run. Every fact was watched on ModelDB 2.0.8.1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2.messages import INVALID_ARGUMENT, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def check_epoch_number(observation: Mapping[str, Any]) -> None:
    """Raises `ApiError` for an observation without a number of its epoch; its text is exact, except
    for values that are objects and for artifacts.
    """
    epoch = observation.get("epoch_number")
    if isinstance(epoch, int | float) and not isinstance(epoch, bool):
        return
    lines = ["Observations can only have numeric epoch_number, condition not met in "]
    attribute = observation.get("attribute")
    if attribute is not None:
        lines += [
            "attribute {\n",
            *([f'  key: "{attribute["key"]}"\n'] if "key" in attribute else []),
            *(_message("value", attribute["value"], 1) if "value" in attribute else []),
            "}\n",
        ]
    if "timestamp" in observation:
        lines.append(f"timestamp: {observation['timestamp']}\n")
    if "epoch_number" in observation:
        lines += _message("epoch_number", epoch, 0)
    raise ApiError(INVALID_ARGUMENT, "".join(lines))


def observation_read_back(observation: Mapping[str, Any]) -> dict[str, Any]:
    """An observation as later reads give it: whole epochs, no attribute without a key, null for a
    value that was not sent.
    """
    read = {**observation, "epoch_number": int(observation["epoch_number"])}
    attribute = observation.get("attribute")
    if attribute is not None:
        if "key" in attribute:
            read["attribute"] = {"value": None, **attribute}
        else:
            del read["attribute"]
    return read


def _message(name: str, value: object, depth: int) -> Iterator[str]:
    """A google.protobuf.Value as protobuf prints it."""
    indent = "  " * depth
    yield f"{indent}{name} {{\n"
    match value:
        case None:
            yield f"{indent}  null_value: NULL_VALUE\n"
        case bool():
            yield f"{indent}  bool_value: {str(value).lower()}\n"
        case int() | float():
            yield f"{indent}  number_value: {float(value)}\n"
        case str():
            yield f"{indent}  string_value: {json.dumps(value)}\n"
        case list():
            yield f"{indent}  list_value {{\n"
            for item in value:
                yield from _message("values", item, depth + 2)
            yield f"{indent}  }}\n"
    yield f"{indent}}}\n"
