"""Maps hyperparameters: people's own to hyperparameters, those of SageMaker's SDK to attributes.

The SDK writes its own plumbing (script, source, log level, job name) among the hyperparameters.
Most of it differs in every run, so the pages' list and comparison of runs would be full of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v2.limits import (
    attribute_key,
    distinct_keys,
    fits_value,
    run_key,
    shortened_value,
)
from daemon.targets.modeldb_v2.renaming import note_hashed, note_renamed, quoted

if TYPE_CHECKING:
    from daemon.training_job.hyperparameters import Hyperparameter
    from daemon.training_job.training_run import TrainingRun

EMPTY = "(empty)"
"""Replaces a blank value, which the web UI would show as 0."""

_PLUMBING = re.compile(r"sagemaker[_-].*|_tuning_.*|mp_parameters", re.IGNORECASE | re.DOTALL)
_SET_BY_TOOLS = re.compile(r"_.*|model_dir", re.IGNORECASE | re.DOTALL)
"""Mostly set by tools, but sometimes by people: `_kfold`."""


def hyperparameters(run: TrainingRun, notes: list[str]) -> list[dict[str, Any]]:
    """Entries for people's own hyperparameters, in their order; those set by tools come last."""
    own = sorted(_own(run), key=lambda each: _SET_BY_TOOLS.fullmatch(each.key) is not None)
    keys = distinct_keys((each.key for each in own), run_key)
    note_renamed("hyperparameter", keys, notes)
    return [{"key": keys[each.key], "value": _fitting(each, notes)} for each in own]


def hyperparameter_attributes(run: TrainingRun, notes: list[str]) -> dict[str, str]:
    """Attributes, all of them text: the SDK's plumbing, and what a hyperparameter's value cannot
    hold.
    """
    plumbing = {each.key: _text(each) for each in run.hyperparameters if _is_plumbing(each)}
    keys = distinct_keys(plumbing, attribute_key)
    note_hashed("hyperparameter", keys, attribute_key, notes)
    attributes = {
        f"sdk_{keys[key]}": text if text.strip() else EMPTY for key, text in plumbing.items()
    }
    keys = distinct_keys((each.key for each in _own(run)), attribute_key)
    for each in _own(run):
        key = f"hyperparameter_{keys[each.key]}"
        if each.is_rounded:
            attributes[f"{key}_exact"] = each.text.strip()
            notes.append(
                f"hyperparameter {quoted(each.key)} has more digits than a number can hold: "
                f"written as {each.number}, exact in attribute {key}_exact"
            )
        elif each.number is None and not fits_value(_text(each)):
            attributes[f"{key}_full"] = _text(each)
    return attributes


def _own(run: TrainingRun) -> list[Hyperparameter]:
    return [each for each in run.hyperparameters if not _is_plumbing(each)]


def _is_plumbing(parameter: Hyperparameter) -> bool:
    return _PLUMBING.fullmatch(parameter.key) is not None


def _fitting(parameter: Hyperparameter, notes: list[str]) -> float | str:
    """Numbers as numbers; texts shortened where the server would refuse them."""
    if parameter.number is not None:
        return parameter.number
    text = _text(parameter)
    if not text.strip():
        notes.append(f"hyperparameter {quoted(parameter.key)} is blank: written as {EMPTY}")
        return EMPTY
    if not fits_value(text):
        notes.append(f"hyperparameter {quoted(parameter.key)} of {len(text)} characters shortened")
    return shortened_value(text)


def _text(parameter: Hyperparameter) -> str:
    """Texts unquoted, everything else as it is: the web UI shows `true` as 1 and null as 0."""
    return parameter.value if isinstance(parameter.value, str) else parameter.text
