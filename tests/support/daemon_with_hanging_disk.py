"""The daemon with a disk that hangs while a file exists: ``python -m`` this instead of ``daemon``.

The file is named by the environment variable ``DISK_HANGS_WHILE``; another one, with ``.hit`` at
the end of its name, appears when something hangs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.__main__ import main
from daemon.checkpoint.sqlite.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.sqlite.database import Answer, Operation

HANGS_WHILE = Path(os.environ["DISK_HANGS_WHILE"])

_apply = Database.apply


def _hanging_apply(self: Database, operations: Sequence[Operation[Any]]) -> list[Answer]:
    while HANGS_WHILE.exists():
        HANGS_WHILE.with_suffix(".hit").touch()
        time.sleep(0.02)
    return _apply(self, operations)


if __name__ == "__main__":
    Database.apply = _hanging_apply  # type: ignore[method-assign]  # the point of this module
    raise SystemExit(main())
