"""Tells people's own hyperparameters from those of SageMaker's SDK.

The SDK writes its own plumbing (script, source, log level, job name) among the hyperparameters.
Most of it differs in every run, so the pages' list and comparison of runs would be full of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.training_job.hyperparameters import Hyperparameter
    from daemon.training_job.training_run import TrainingRun

_PLUMBING = re.compile(r"sagemaker[_-].*|_tuning_.*|mp_parameters", re.IGNORECASE | re.DOTALL)
_SET_BY_TOOLS = re.compile(r"_.*|model_dir", re.IGNORECASE | re.DOTALL)
"""Mostly set by tools, but sometimes by people: `_kfold`."""


def own_hyperparameters(run: TrainingRun) -> list[Hyperparameter]:
    """People's own, in their order."""
    return [each for each in run.hyperparameters if not _is_plumbing(each)]


def tools_last(own: list[Hyperparameter]) -> list[Hyperparameter]:
    """Hyperparameters with those that mostly tools set at the end."""
    return sorted(own, key=lambda each: _SET_BY_TOOLS.fullmatch(each.key) is not None)


def sdk_hyperparameters(run: TrainingRun) -> dict[str, str]:
    """The SDK's, as text by their keys."""
    return {each.key: plain_text(each) for each in run.hyperparameters if _is_plumbing(each)}


def plain_text(parameter: Hyperparameter) -> str:
    """Texts unquoted, everything else as SageMaker has it."""
    return parameter.value if isinstance(parameter.value, str) else parameter.text


def _is_plumbing(parameter: Hyperparameter) -> bool:
    return _PLUMBING.fullmatch(parameter.key) is not None
