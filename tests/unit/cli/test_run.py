"""What `run` does beside the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from daemon.cli import run
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(60)
def test_what_was_built_is_kept_when_the_daemon_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    nowhere = "http://127.0.0.1:9"
    configured = settings(
        tmp_path / "checkpoint.db",
        aws={
            "region": "eu-west-1",
            "account_id": "123456789012",
            "sqs_endpoint_url": nowhere,
            "sagemaker_endpoint_url": nowhere,
        },
        http={"host": "127.0.0.1", "port": 0},
    )
    kept: list[bool] = []

    def keep_and_stop() -> None:
        kept.append(True)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run, "_keep_what_was_built", keep_and_stop)
    asyncio.run(run._run(configured))
    assert kept == [True]


def test_what_is_kept_is_collected_no_more() -> None:
    code = (
        "import gc\n"
        "from daemon.cli import run\n"
        "run._keep_what_was_built()\n"
        "print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 5_000, gc.isenabled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True", "True"]
