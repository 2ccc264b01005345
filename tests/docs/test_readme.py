"""The README, and the guides split from it, agree with files, keys, metrics and outcomes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from daemon.config.settings import Settings
from daemon.observability.metrics import Metrics
from daemon.outcome import REASONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
AWS_SETUP = (ROOT / "docs/aws-setup.md").read_text(encoding="utf-8")
MONITORING = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")


def blocks(language: str, text: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    return found


def without_sids(policy: dict[str, Any]) -> dict[str, Any]:
    return policy | {
        "Statement": [{k: v for k, v in each.items() if k != "Sid"} for each in policy["Statement"]]
    }


def test_the_json_of_the_aws_setup_is_that_of_the_files_it_names() -> None:
    pattern, policy = map(json.loads, blocks("json", AWS_SETUP))
    assert pattern == json.loads((ROOT / "deploy/eventbridge/rule-pattern.json").read_text())
    assert policy == without_sids(json.loads((ROOT / "deploy/iam/task-policy.json").read_text()))
    json.loads((ROOT / "deploy/eventbridge/queue-policy.json").read_text())


def test_the_attributes_of_the_queue_are_json_within_json() -> None:
    [text] = re.findall(r"--attributes '(\{.*?\})'", AWS_SETUP, flags=re.DOTALL)
    attributes = json.loads(text)
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == "10"


def test_its_shortest_configuration_is_one() -> None:
    Settings.model_validate(yaml.safe_load(blocks("yaml", README)[0]))


def test_the_metrics_of_the_monitoring_guide_are_all_there_are() -> None:
    given = set(
        re.findall(
            r"`((?:\w+_)+(?:total|seconds|in_flight|open|fault|messages|rows|info|by))(?:\{[^`]*\})?`",
            MONITORING,
        )
    )
    own = {
        family.name
        + ("_total" if family.type == "counter" else "_info" if family.type == "info" else "")
        for family in Metrics(version="0", target="modeldb-v2").registry.collect()
        if family.name.startswith("modeldb_sync_")
    }
    assert {name.removeprefix("modeldb_sync_") for name in own} <= given


def test_its_outcomes_are_the_programs() -> None:
    outcomes = README.partition("\n## Message outcomes\n")[2]
    assert set(re.findall(r"(?m)^\| `(\w+)` \| ", outcomes)) == set(REASONS)
