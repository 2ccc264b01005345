"""How many examples hypothesis tries, and from where.

The profile `fixed` is CI's: the same examples on every run. For a long search of new ones:
``HYPOTHESIS_PROFILE=explore python -m pytest --timeout=0 tests/property``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# Tables of characters and constants that hypothesis keeps between runs do not belong into the tree.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getuid()}")

# A machine that is busy with other things makes no example wrong.
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
