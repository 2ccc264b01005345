"""Settings for tests that build single parts themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"


def settings(
    checkpoint: Path, *, target_url: str = "http://127.0.0.1:9/v1", **sections: Mapping[str, Any]
) -> Settings:
    """The shortest configuration, with whole sections replaced by keyword."""
    given: dict[str, Any] = {
        "queue": {"url": QUEUE_URL},
        "target": {"url": target_url},
        "checkpoint": {"path": str(checkpoint)},
        **sections,
    }
    return Settings.model_validate(given)


def settings_of_nowhere(checkpoint: Path, **sections: Any) -> Settings:
    """Those of a daemon that can reach no edge."""
    nowhere = "http://127.0.0.1:9"
    aws = {
        "region": "eu-west-1",
        "account_id": "123456789012",
        "sqs_endpoint_url": nowhere,
        "sagemaker_endpoint_url": nowhere,
    }
    return settings(checkpoint, aws=aws, http={"host": "127.0.0.1", "port": 0}, **sections)
