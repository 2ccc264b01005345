"""Loads configurations for tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon.config.sources import ConfigError, load_settings
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.config.settings import Settings

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"
TARGET_URL = "http://modeldb-proxy:8080/v1"
EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
SECRET = "s3cr3t-Value"


class Loader:
    """Loads the configuration from the files and variables of one test.

    Args:
        root: a directory of the test.
        target: the section ``target`` of the shortest configuration; None: a ModelDB V2.
    """

    def __init__(self, root: Path, target: Mapping[str, Any] | None = None) -> None:
        self.root = root
        self.target = target or {"url": TARGET_URL}
        self.secrets = root / "secrets"
        self.default = root / "etc" / "config.yaml"

    def file(self, text: str | bytes, name: str = "config.yaml") -> Path:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def secret(self, name: str, text: str) -> None:
        self.secrets.mkdir(exist_ok=True)
        (self.secrets / name).write_text(text)

    def load(
        self, config: dict[str, Any] | str | bytes | None = None, /, **variables: str
    ) -> Settings:
        """Loads a file (a mapping is merged into the shortest configuration) and variables, given
        without their prefix.
        """
        if config is None or isinstance(config, dict):
            merged: dict[str, Any] = {"queue": {"url": QUEUE_URL}, "target": {**self.target}}
            for section, keys in (config or {}).items():
                merged[section] = (
                    merged[section] | keys if section in merged and isinstance(keys, dict) else keys
                )
            config = yaml.safe_dump(merged)
        environ = {f"MODELDB_SYNC_{name}": value for name, value in variables.items()}
        return load_settings(self.file(config), environ, self.secrets, self.default)

    def v2(
        self, config: dict[str, Any] | str | bytes | None = None, /, **variables: str
    ) -> ModelDbV2Settings:
        """As `load`; the section ``target``, which must be that of a ModelDB V2."""
        target = self.load(config, **variables).target
        assert isinstance(target, ModelDbV2Settings)
        return target

    def v1(
        self, config: dict[str, Any] | str | bytes | None = None, /, **variables: str
    ) -> ModelDbV1Settings:
        """As `v2`, of a ModelDB V1."""
        target = self.load(config, **variables).target
        assert isinstance(target, ModelDbV1Settings)
        return target

    def problems(
        self, config: dict[str, Any] | str | bytes | None = None, /, **variables: str
    ) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            self.load(config, **variables)
        assert str(refused.value) == "\n".join(refused.value.problems)
        assert all("\n" not in problem for problem in refused.value.problems)
        return list(refused.value.problems)

    def problem(
        self, config: dict[str, Any] | str | bytes | None = None, /, **variables: str
    ) -> str:
        problems = self.problems(config, **variables)
        assert len(problems) == 1, problems
        return problems[0]


def nested(key: str, value: object) -> dict[str, Any]:
    """A configuration with one key, given dotted."""
    section, *rest = key.split(".")
    return {section: nested(".".join(rest), value) if rest else value}
