"""Maps hyperparameters: people's own to hyperparameters, those of SageMaker's SDK to attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v2.limits import attribute_key, fits_value, run_key, shortened_value
from daemon.targets.names import distinct_keys
from daemon.targets.renaming import note_hashed, note_renamed, quoted
from daemon.targets.sdk_hyperparameters import (
    own_hyperparameters,
    plain_text,
    sdk_hyperparameters,
    tools_last,
)

if TYPE_CHECKING:
    from daemon.training_job.hyperparameters import Hyperparameter
    from daemon.training_job.training_run import TrainingRun

EMPTY = "(empty)"
"""Replaces a blank value, which the web UI would show as 0."""


def hyperparameters(run: TrainingRun, notes: list[str]) -> list[dict[str, Any]]:
    """Entries for people's own hyperparameters, in their order; those set by tools come last."""
    own = tools_last(own_hyperparameters(run))
    keys = distinct_keys((each.key for each in own), run_key)
    note_renamed("hyperparameter", keys, notes)
    return [{"key": keys[each.key], "value": _fitting(each, notes)} for each in own]


def hyperparameter_attributes(run: TrainingRun, notes: list[str]) -> dict[str, str]:
    """Attributes, all of them text: the SDK's plumbing, and what a hyperparameter's value cannot
    hold.
    """
    plumbing = sdk_hyperparameters(run)
    keys = distinct_keys(plumbing, attribute_key)
    note_hashed("hyperparameter", keys, attribute_key, notes)
    attributes = {
        f"sdk_{keys[key]}": text if text.strip() else EMPTY for key, text in plumbing.items()
    }
    own = own_hyperparameters(run)
    keys = distinct_keys((each.key for each in own), attribute_key)
    for each in own:
        key = f"hyperparameter_{keys[each.key]}"
        if each.is_rounded:
            attributes[f"{key}_exact"] = each.text.strip()
            notes.append(
                f"hyperparameter {quoted(each.key)} has more digits than a number can hold: "
                f"written as {each.number}, exact in attribute {key}_exact"
            )
        elif each.number is None and not fits_value(plain_text(each)):
            attributes[f"{key}_full"] = plain_text(each)
    return attributes


def _fitting(parameter: Hyperparameter, notes: list[str]) -> float | str:
    """Numbers as numbers; texts shortened where the server would refuse them."""
    if parameter.number is not None:
        return parameter.number
    text = plain_text(parameter)
    if not text.strip():
        notes.append(f"hyperparameter {quoted(parameter.key)} is blank: written as {EMPTY}")
        return EMPTY
    if not fits_value(text):
        notes.append(f"hyperparameter {quoted(parameter.key)} of {len(text)} characters shortened")
    return shortened_value(text)
