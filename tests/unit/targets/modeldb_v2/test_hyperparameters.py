"""Hyperparameters in ModelDB V2."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.support.modeldb_v2_rules import (
    ASCII,
    hyperparameters,
    mapped,
    random_text,
    values,
)


def test_hyperparameters_keep_type_and_text() -> None:
    given = {
        "epochs": "10",
        "lr": "0.0005",
        "amp": "true",
        "warmup": "null",
        "layers": "[256, 128]",
        "opt": '"adam"',
    }
    assert hyperparameters(
        **given, zip="00420", version="1.10", rate="1e-3", clip="NaN", dropout='"0.1"'
    ) == {
        "epochs": 10,
        "lr": 0.0005,
        "amp": "true",
        "warmup": "null",
        "layers": "[256, 128]",
        "opt": "adam",
        "zip": "00420",
        "version": 1.1,
        "rate": 0.001,
        "clip": "NaN",
        "dropout": "0.1",
    }


@pytest.mark.parametrize("blank", ["", " ", '""', '"\\n"'])
def test_a_blank_hyperparameter_is_shown_as_empty(blank: str) -> None:
    result = mapped(HyperParameters={"a": blank})
    assert values(result.body["hyperparameters"]) == {"a": "(empty)"}
    assert result.notes == ("hyperparameter 'a' is blank: written as (empty)",)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2500,
        random_text(ASCII, 2500),
        random_text('"\\\n' * 10 + ASCII, 1990),
        random_text("<>&='\u2028\u2029a", 1200),
        "漢" * 2500,
        "🚀" * 700,
        json.dumps({"a": '"' * 1900}),
    ],
    ids=lambda text: text[:10],
)
def test_long_text_is_shortened_and_kept_whole_in_an_attribute(text: str) -> None:
    result = mapped(HyperParameters={"a.b": text, "c": f"{text}y"})
    written = values(result.body["hyperparameters"])
    assert written["a_b"] != written["c"]
    assert written["a_b"][:200] == text[:200]
    assert len(written["a_b"].encode()) <= 2000
    attributes = values(result.body["attributes"])
    assert attributes["hyperparameter_a_b_full"] == text
    assert attributes["hyperparameter_c_full"] == f"{text}y"
    assert any(note.startswith("hyperparameter 'a.b' of") for note in result.notes)


@pytest.mark.parametrize(
    "text", ["x" * 2000, "漢" * 666, random_text(ASCII.replace("'", ""), 1700)]
)
def test_text_that_fits_is_not_touched(text: str) -> None:
    result = mapped(HyperParameters={"a": text})
    assert values(result.body["hyperparameters"]) == {"a": text}
    assert result.notes == ()


def test_keys_are_cleaned_and_colliding_ones_stay_apart() -> None:
    given = {
        "a.b": "1",
        "a b": "2",
        "a_b": "3",
        "précision": "4",
        "-": "5",
        "漢": "6",
        "字": "7",
        "x:y/z": "8",
        "\u0301": "9",
    }
    result = mapped(HyperParameters=given)
    written = values(result.body["hyperparameters"])
    assert (written["a_b"], written["precision"], written["-"], written["x_y/z"]) == (3, 4, 5, 8)
    assert sorted(written.values()) == list(range(1, 10))
    backwards = mapped(HyperParameters=dict(reversed(given.items())))
    assert values(backwards.body["hyperparameters"]) == written
    assert "hyperparameter 'précision' written as precision" in result.notes
    assert not any("'a_b'" in note for note in result.notes)


def test_crafted_collisions_end_too() -> None:
    pair = {"a b": "1", "a.b": "2"}
    hashed = [
        key for key in values(mapped(HyperParameters=pair).body["hyperparameters"]) if key != "a_b"
    ]
    written = values(
        mapped(HyperParameters=pair | dict.fromkeys(hashed, "3")).body["hyperparameters"]
    )
    assert sorted(written.values()) == [1, 2, 3, 3]


@pytest.mark.parametrize(
    "spellings",
    [
        ("0.8", "0.80", ".8", "8e-1", "0.8 "),
        ("0.001", "1e-3", "1E-3", "1e-03", "+0.001"),
        ("5", "+5", "5.", "5.0", " 5"),
        ("-2", "-2.0", "-2e0", "-0.2e1", "-2."),
        ("0", "-0", "0.0", "-0.0", "0e0"),
        ("100000", "1e5", "1E5", "1e+05", "100000.00"),
    ],
)
def test_a_number_is_the_same_number_in_every_spelling(spellings: tuple[str, ...]) -> None:
    results = [mapped(HyperParameters={"a": text}) for text in spellings]
    for result in results:
        value = values(result.body["hyperparameters"])["a"]
        assert type(value) in {int, float}
        assert value == float(spellings[0])
        assert result.notes == ()
        assert not [key for key in values(result.body["attributes"]) if "hyperparameter" in key]


@pytest.mark.parametrize(
    "text",
    [
        *("9007199254740993", "-9007199254740993", "18446744073709551615", "1" * 30),
        *("0.12345678901234567890", "3.14159265358979323846", "1234567890123456.789"),
        *("1e-400", "9007199254740993.0", "1" + "0" * 60 + "1"),
    ],
)
def test_a_number_that_is_rounded_is_exact_in_an_attribute(text: str) -> None:
    result = mapped(HyperParameters={"seed.1": text})
    value = values(result.body["hyperparameters"])["seed_1"]
    assert value == float(text)
    assert values(result.body["attributes"])["hyperparameter_seed_1_exact"] == text
    assert Decimal(repr(value)) != Decimal(text)
    assert (
        f"hyperparameter 'seed.1' has more digits than a number can hold: written as {value}, "
        "exact in attribute hyperparameter_seed_1_exact"
    ) in result.notes


SDK = {
    "sagemaker_program": '"train.py"',
    "sagemaker_submit_directory": '"s3://b/sourcedir.tar.gz"',
    "sagemaker_container_log_level": "20",
    "sagemaker_job_name": '"job-1"',
    "sagemaker_region": '"eu-west-1"',
    "sagemaker_enable_cloudwatch_metrics": "false",
    "sagemaker_distributed_dataparallel_enabled": "true",
    "sagemaker_mpi_num_of_processes_per_host": "8",
    "sagemaker_estimator_class_name": '"PyTorch"',
    "sagemaker_s3_output": '""',
    "mp_parameters": '{"partitions": 2}',
    "_tuning_objective_metric": "validation:auc",
    "SAGEMAKER_PROGRAM": "train.py",
}


def test_the_sdks_own_hyperparameters_are_attributes() -> None:
    result = mapped(HyperParameters={**SDK, "epochs": "10", "lr": "0.1"})
    assert result.body["hyperparameters"] == [
        {"key": "epochs", "value": 10},
        {"key": "lr", "value": 0.1},
    ]
    attributes = values(result.body["attributes"])
    assert {key: attributes[f"sdk_{key}"] for key in SDK} == {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "s3://b/sourcedir.tar.gz",
        "sagemaker_container_log_level": "20",
        "sagemaker_job_name": "job-1",
        "sagemaker_region": "eu-west-1",
        "sagemaker_enable_cloudwatch_metrics": "false",
        "sagemaker_distributed_dataparallel_enabled": "true",
        "sagemaker_mpi_num_of_processes_per_host": "8",
        "sagemaker_estimator_class_name": "PyTorch",
        "sagemaker_s3_output": "(empty)",
        "mp_parameters": '{"partitions": 2}',
        "_tuning_objective_metric": "validation:auc",
        "SAGEMAKER_PROGRAM": "train.py",
    }
    assert result.notes == ()


def test_hyperparameters_set_by_tools_come_after_peoples_own() -> None:
    given = {"_kfold": "5", "model_dir": '"s3://b/m"', "_num_gpus": "auto", "b": "1", "a": "2"}
    result = mapped(HyperParameters=given)
    keys = [entry["key"] for entry in result.body["hyperparameters"]]
    assert keys == ["b", "a", "_kfold", "model_dir", "_num_gpus"]


@pytest.mark.parametrize("key", ["program", "my_sagemaker_program", "mp_parameters_2", "tuning"])
def test_a_key_of_ones_own_that_only_resembles_the_sdks_stays(key: str) -> None:
    assert hyperparameters(**{key: "1"}) == {key: 1}


def test_a_redacted_value_of_the_sdk_stays_redacted() -> None:
    result = mapped(HyperParameters={"sagemaker_api_key": "hunter2"})
    assert values(result.body["attributes"])["sdk_sagemaker_api_key"] == "[redacted]"
    assert "hunter2" not in repr(result)


def test_keys_of_the_sdk_that_clean_alike_stay_apart() -> None:
    result = mapped(HyperParameters={"sagemaker_a.b": "1", "sagemaker_a b": "2"})
    kept = {
        key: value
        for key, value in values(result.body["attributes"]).items()
        if key.startswith("sdk_sagemaker_a_b")
    }
    assert sorted(kept.values()) == ["1", "2"]
    assert len([note for note in result.notes if note.startswith("hyperparameter")]) == 2
