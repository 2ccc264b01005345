"""docs/configuration.md is what the settings generate."""

from __future__ import annotations

from daemon.config.sources import setting_keys
from tools.configuration_docs import PAGE, page


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


def test_every_key_has_a_row() -> None:
    text = page()
    assert [key for key in setting_keys().fields if f"| `{key}` | " not in text] == []
