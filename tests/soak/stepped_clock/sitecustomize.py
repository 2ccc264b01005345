"""Python runs this at its start where PYTHONPATH names this folder: `time.time` is then off by the
seconds in a file.

SOAK_CLOCK_FILE names the file; it is looked at again every fifth of a second, so a running process
sees its wall clock step as after `date -s`. Only `time.time` steps: neither `datetime.now` (which
signs requests to AWS) nor the monotonic clock, which no `date -s` touches either.
"""

import os
import time

_FILE = os.environ.get("SOAK_CLOCK_FILE", "")
_LOOK_SECONDS = 0.2
_true_time = time.time
_offset = 0.0
_next_look = 0.0


def _stepped_time() -> float:
    global _offset, _next_look  # noqa: PLW0603 - the module is the clock
    now = time.monotonic()
    if now >= _next_look:
        _next_look = now + _LOOK_SECONDS
        try:
            with open(_FILE, encoding="ascii") as file:  # noqa: PTH123 - pathlib would be imported into every process
                _offset = float(file.read() or 0)
        except (OSError, ValueError):
            pass  # the file is just being written
    return _true_time() + _offset


if _FILE:
    time.time = _stepped_time
