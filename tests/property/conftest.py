"""Profiles of hypothesis.

`fixed` is the default: the same examples in every run. For a long search for new ones:
``HYPOTHESIS_PROFILE=explore python -m pytest --timeout=0 tests/property``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# Hypothesis caches tables of characters and constants; they do not belong in the tree.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getuid()}")

# A busy machine must not fail a test.
_UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=_UNHURRIED,
)
settings.register_profile(
    "explore",
    deadline=None,
    database=None,
    max_examples=5_000,
    print_blob=True,
    suppress_health_check=_UNHURRIED,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
