"""config.example.yaml has every key, with its default and its description."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from daemon.config.settings import DynamoDbSettings, Settings
from daemon.config.sources import load_settings, setting_keys
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import (
    ModelDbV2Settings,
)
from tests.support.config_loader import EXAMPLE, Loader

if TYPE_CHECKING:
    from pydantic import BaseModel


def fields_of(section: type[BaseModel]) -> list[tuple[str, Any]]:
    return list(section.model_fields.items())


class TestExample:
    text: ClassVar = EXAMPLE.read_text()
    document: ClassVar = yaml.safe_load(text)
    logins: ClassVar = [
        yaml.safe_load(line) for line in re.findall(r"^ *# (auth: \{.*\})$", text, re.MULTILINE)
    ]
    other_targets: ClassVar = [
        yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE))
        for block in re.findall(r"^# target:\n(?:# .*\n)+", text, re.MULTILINE)
    ]

    other_checkpoints: ClassVar = [
        yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE))
        for block in re.findall(r"^# checkpoint:\n(?:# .*\n)+", text, re.MULTILINE)
    ]
    of_mlflow: ClassVar = [
        yaml.safe_load(line)
        for line in re.findall(r"^#   # ((?:auth|tracking_uri): .*)$", text, re.MULTILINE)
    ]

    def shown(self, key: str) -> list[Any]:
        """The values that the example shows for a key, also those commented out."""
        found = []
        for document in (
            self.document,
            *({"target": more} for more in (*self.logins, *self.of_mlflow)),
            *self.other_targets,
            *self.other_checkpoints,
        ):
            at: Any = document
            for name in key.split("."):
                at = at[name] if isinstance(at, dict) and name in at else KeyError
            if at is not KeyError:
                found.append(at)
        return found

    def test_it_loads_as_it_is(self, loader: Loader) -> None:
        settings = load_settings(EXAMPLE, {}, loader.secrets, loader.default)
        assert settings == loader.load()

    def test_it_names_every_key(self) -> None:
        missing = [key for key in setting_keys().fields if not self.shown(key)]
        assert missing == []
        assert len(setting_keys().fields) > 45

    def test_it_shows_the_defaults(self) -> None:
        required = {"queue.url", "target.url"}
        for key, (field, *others) in setting_keys().fields.items():
            if key not in required and not others and not field.is_required():
                default = field.get_default(call_default_factory=True)
                plain = (
                    list(default)
                    if isinstance(default, tuple)
                    else str(default)
                    if isinstance(default, Path)
                    else default
                )
                assert self.shown(key)[0] == plain, key
        assert self.document["target"]["auth"] == {"kind": "none"}

    def test_it_shows_every_key_of_each_kind_of_target_with_the_kinds_own_default(self) -> None:
        for kind, target in (
            (ModelDbV2Settings, self.document["target"]),
            (ModelDbV1Settings, self.other_targets[0]["target"]),
            (MlflowSettings, self.other_targets[1]["target"]),
        ):
            assert list(target) == list(kind.model_fields)
            for name, field in kind.model_fields.items():
                if not field.is_required() and name != "auth":
                    assert target[name] == field.get_default(call_default_factory=True), name

    def test_it_explains_every_key_in_the_words_of_its_description(self) -> None:
        comments = re.findall(r"^ *#[# ]*(.*)$", self.text, re.MULTILINE)
        text = " ".join(" ".join(comments).split())
        fields = [field for fields in setting_keys().fields.values() for field in fields]
        for field in fields + [field for _, field in fields_of(Settings)]:
            assert field.description
            assert " ".join(field.description.split()) in text

    def test_the_other_kind_of_checkpoint_in_it_loads(self, loader: Loader) -> None:
        (other,) = self.other_checkpoints
        assert list(other["checkpoint"]) == list(DynamoDbSettings.model_fields)
        loaded = load_settings(
            loader.file(yaml.safe_dump(self.document | other)), {}, loader.secrets
        )
        assert loaded.checkpoint == DynamoDbSettings(table="modeldb-sync", region="eu-west-1")

    def test_every_kind_of_login_in_it_loads(self, loader: Loader) -> None:
        kinds = [loader.v2({"target": login}).auth.kind for login in self.logins]
        assert kinds == ["basic", "bearer", "verta"]

    def test_every_other_target_in_it_loads(self, loader: Loader) -> None:
        targets = [
            load_settings(
                loader.file(yaml.safe_dump(self.document | other)), {}, loader.secrets
            ).target
            for other in self.other_targets
        ]
        assert targets == [
            ModelDbV1Settings(kind="modeldb-v1", host="modeldb"),
            MlflowSettings(kind="mlflow", tracking_uri="http://mlflow:5000"),
        ]

    def test_every_other_address_and_login_of_another_target_loads(self, loader: Loader) -> None:
        (target,) = (each["target"] for each in self.other_targets if "auth" in each["target"])
        arn, kinds = self.of_mlflow[0], []
        for other in self.of_mlflow:
            more = arn if other.get("auth", {}).get("kind") == "sigv4" else {}
            config = yaml.safe_dump(self.document | {"target": target | more | other})
            loaded = load_settings(loader.file(config), {}, loader.secrets).target
            assert isinstance(loaded, MlflowSettings)
            kinds.append(loaded.auth.kind)
        assert kinds == ["sigv4", "basic", "bearer", "token_file", "sigv4"]
