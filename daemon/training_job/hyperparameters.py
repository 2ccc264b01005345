"""Hyperparameters and their typed values.

SageMaker stores only texts. The Python SDK's framework estimators store JSON in them (number `0.1`,
text `"adam"` with its quotes, `true`, `[1, 2]`); other clients store plain text. Quotes say that a
value is text, whatever it looks like: `"0.1"`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.text import DistinctNames, cleaned
from daemon.training_job.field_readers import texts
from daemon.training_job.numerals import is_exact, number_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Never

    from daemon.training_job.redaction import RunRedaction

_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    key: str
    text: str
    """As SageMaker has it, `cleaned`."""
    value: Any
    """The typed value, see `decoded`."""

    @property
    def number(self) -> float | None:
        """The value if it is a number."""
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return self.value if is_number else None

    @property
    def is_rounded(self) -> bool:
        """Whether the value is a number close to the one in the text."""
        return self.number is not None and not is_exact(self.text, self.number)


def read_hyperparameters(
    description: Mapping[str, Any], redaction: RunRedaction
) -> tuple[Hyperparameter, ...]:
    """Reads HyperParameters in order, without secrets."""
    found: dict[str, Hyperparameter] = {}
    keys = DistinctNames(found)
    for described_key, text in texts(description, "HyperParameters").items():
        key = keys.untaken(redaction.name(cleaned(described_key)))
        shown = redaction.value("hyperparameter", described_key, cleaned(text))
        found[key] = Hyperparameter(key, shown, decoded(shown))
    return tuple(found.values())


def decoded(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The typed value of a hyperparameter.

    JSON strings lose their quotes; `true`, `false`, `null`, lists and objects are decoded. A number
    in any decimal spelling becomes a number, see `number_in`. Everything else stays text, including
    JSON with NaN or with numbers beyond a double.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in {'"', "[", "{"}:
        return _decoded_json(text)
    number = number_in(text)
    return text if number is None else number


def _decoded_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return _cleaned(json.loads(text, parse_constant=_refused, parse_float=_finite))
    except (ValueError, RecursionError):
        return text


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value with its texts `cleaned`, because escapes may contain control characters."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(key): _cleaned(item) for key, item in value.items()}
    return value


def _refused(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is beyond a double")
    return number
