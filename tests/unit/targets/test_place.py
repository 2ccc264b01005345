"""Which spellings of an address are the same target."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.place import TargetPlace, normal_address
from docs.examples.jsonl_target import JsonlSettings


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://modeldb:8080/v1", "http://modeldb:8080/v1"),
        ("HTTP://ModelDB:8080/v1/", "http://modeldb:8080/v1"),
        ("http://user:word@modeldb:8080/v1?key=word#top", "http://modeldb:8080/v1"),
        ("http://modeldb:80/v1", "http://modeldb/v1"),
        ("https://modeldb.:443", "https://modeldb"),
        ("https://modeldb:80", "https://modeldb:80"),
        ("http://[FE80::1]:80/", "http://[fe80::1]"),
        ("http://[fe80::1]:8080", "http://[fe80::1]:8080"),
        ("http://modeldb/V1", "http://modeldb/V1"),
        ("/var/lib/Runs.json", "/var/lib/Runs.json"),
        ("modeldb:6543", "modeldb:6543"),
        (
            "arn:aws:sagemaker:eu-west-1:1:mlflow-app/a",
            "arn:aws:sagemaker:eu-west-1:1:mlflow-app/a",
        ),
        ("http://[half", "http://[half"),
        ("http://modeldb:port", "http://modeldb:port"),
    ],
)
def test_an_address_has_one_spelling(address: str, place: str) -> None:
    assert normal_address(address) == place


def test_where_each_kind_is() -> None:
    v2 = ModelDbV2Settings.model_validate({"url": "http://ModelDB:80/v1/"})
    assert v2.target_place == TargetPlace("modeldb-v2", "http://modeldb/v1")
    v1 = {"kind": "modeldb-v1", "host": "ModelDB"}
    assert ModelDbV1Settings.model_validate(v1).target_place == TargetPlace(
        "modeldb-v1", "modeldb:6543"
    )
    assert ModelDbV1Settings.model_validate({**v1, "server_id": "prod"}).place == "prod"
    jsonl = JsonlSettings(kind="jsonl", file=Path("/tmp/Runs"))
    assert jsonl.target_place == TargetPlace("jsonl", "/tmp/Runs")
