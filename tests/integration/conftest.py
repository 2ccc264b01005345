"""Fixtures of the integration tests."""

from __future__ import annotations

import pytest
from botocore.retries.standard import ExponentialBackoff


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore retries without waiting."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _self, _context: 0)
