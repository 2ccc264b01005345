"""Hyperparameters, and what their texts mean.

SageMaker stores texts only. The Python SDK's framework estimators put JSON into them (number `0.1`,
text `"adam"` with its quotes, `true`, `[1, 2]`), everything else puts plain text. Decoding must not
change what only looks like JSON: `00420`, `1e-3`, `1.10`.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.text import cleaned, untaken
from daemon.training_job.field_readers import MAX_EXACT, texts
from daemon.training_job.redaction import REDACTED, is_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Never

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,15}")
_FRACTION = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    key: str
    text: str
    """As SageMaker has it, `cleaned`."""
    value: Any
    """The typed value, see `decoded`."""


def read_hyperparameters(
    description: Mapping[str, Any], redact: Sequence[str]
) -> tuple[Hyperparameter, ...]:
    """HyperParameters in the order described; text and value are ``[redacted]`` where a pattern
    matches the key.
    """
    found: dict[str, Hyperparameter] = {}
    for told, text in texts(description, "HyperParameters").items():
        key = untaken(cleaned(told), found)
        shown = REDACTED if is_secret(told, redact) else cleaned(text)
        found[key] = Hyperparameter(key, shown, decoded(shown))
    return tuple(found.values())


def decoded(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The typed value of a hyperparameter.

    A JSON string loses its quotes; `true`, `false` and `null` become what they say; a JSON list or
    object is decoded; a number becomes a number when writing it again gives the same text (whole
    ones up to 2**53, so that they are exact as doubles). All other text stays text, also numbers in
    another spelling, and JSON with NaN or with numbers beyond a double.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in {'"', "[", "{"}:
        return _decoded_json(text)
    if _WHOLE.fullmatch(text):
        value = int(text)
        return value if abs(value) <= MAX_EXACT else text
    if _FRACTION.fullmatch(text):
        number = float(text)
        return number if repr(number) == text and text != "-0.0" else text
    return text


def _decoded_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return _cleaned(json.loads(text, parse_constant=_refused, parse_float=_finite))
    except (ValueError, RecursionError):
        return text


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value whose texts can be stored: escapes in it may stand for what the text itself has
    been cleaned of.
    """
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(key): _cleaned(item) for key, item in value.items()}
    return value


def _refused(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is beyond a double")
    return number
