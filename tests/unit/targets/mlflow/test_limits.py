from __future__ import annotations

import pytest

from daemon.targets.mlflow.entities import MetricPoint
from daemon.targets.mlflow.limits import (
    batches,
    clean_key,
    cut,
    dataset_name,
    equal_as,
    experiment_name,
    fits,
    model_name,
    shortened_value,
    unfit_source,
)
from daemon.targets.names import distinct_keys


@pytest.mark.parametrize(
    ("key", "clean"),
    [
        ("lr", "lr"),
        ("train:auc", "train/auc"),
        ("mAP@0.5:0.95", "mAP_0.5/0.95"),
        ("metrics/precision (B)", "metrics/precision_B"),
        ("size [MB] (all)", "size_MB_all"),
        ("größe", "größe"),
        ("学习率", "学习率"),
        ("\U0001d400lpha", "lpha"),
        (" spaced  out ", "spaced  out"),
        ("_kfold", "_kfold"),
        ("", "_"),
        (".", "_"),
        ("..", "_"),
        ("..x", "_x"),
        (".hidden", ".hidden"),
        ("/a//b/", "_/a/_/b/_"),
        ("a/./b/../c", "a/_/b/_/c"),
        ("::", "_/_/_"),
        ("tab\there\n", "tab_here"),
        ("😀", "_"),
        ("x" * 220, "x" * 220),
    ],
)
def test_keys(key: str, clean: str) -> None:
    assert clean_key(key) == clean
    assert clean_key(clean) == clean


def test_a_long_key_keeps_its_beginning_and_gets_a_hash() -> None:
    one, other = clean_key("x" * 221), clean_key("x" * 222)
    assert len(one) == len(other) == 220
    assert one[:207] == "x" * 207
    assert one != other


def test_keys_that_mysql_takes_for_one_stay_distinct() -> None:
    keys = distinct_keys(
        ["Lr", "lr", "LR", "é", "e", "ﬁ", "fi", "straße", "strasse"], clean_key, equal_as
    )
    assert keys["lr"] == "lr"
    assert keys["e"] == "e"
    assert keys["é"].startswith("é_")
    assert keys["fi"] == "fi"
    assert len({equal_as(key) for key in keys.values()}) == 9


def test_names() -> None:
    assert model_name("churn") == "churn"
    assert model_name("team/churn:v2").startswith("team-churn-v2-")
    assert model_name("..").startswith("model-")
    assert len(model_name("/" * 300)) == 256
    assert experiment_name("a/b") == "a/b"
    assert experiment_name("ab", "/Shared/") == "/Shared/ab"
    assert experiment_name("a/b", "/Shared/").startswith("/Shared/a-b-")
    assert len(experiment_name("x" * 300, "/Shared/")) == 256
    assert len(dataset_name("x" * 600)) == 491


def test_lengths_are_in_utf16_units() -> None:
    assert fits("😀" * 50, 100)
    assert not fits("😀" * 50 + "x", 100)
    assert cut("😀" * 51, 100) == "😀" * 49 + "…"
    assert cut("x" * 100, 100) == "x" * 100
    shortened = shortened_value("x" * 101, 100)
    assert len(shortened) == 100
    assert "… [shortened, sha256 " in shortened
    assert shortened != shortened_value("x" * 102, 100)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/model.tar.gz",
        "s3://bucket/output/",
        "s3://my.bucket-1/a/b..c/model.tar.gz",
        "s3://bucket/a b/%20/model.tar.gz",
        "s3://bucket/binary/lib/model.tar.gz",
        "s3://bucket/.hidden/model.tar.gz",
        f"s3://bucket/{'x' * 488}",
    ],
)
def test_sources_that_fit(uri: str) -> None:
    assert unfit_source(uri) is None


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "it is not in S3"),
        ("arn:aws:s3:::bucket/x", "it is not in S3"),
        ("https://bucket.s3.amazonaws.com/x", "it is not in S3"),
        ("s3://", "its URI has no path"),
        ("s3://bucket", "its URI has no path"),
        ("s3://bucket//", "its URI has no path"),
        ("s3://bucket/?x", "its URI has no path"),
        ("s3:///path", "its URI has no path"),
        ("s3://bucket/./x", "MLflow refuses its path"),
        ("s3://bucket/x/..", "MLflow refuses its path"),
        ("s3://bucket/%2e%2e/x", "MLflow refuses its path"),
        ("s3://bucket/%252e/x", "MLflow refuses its path"),
        ("s3://bucket/x%00", "MLflow refuses its path"),
        ("s3://bucket/lib64/x", "MLflow refuses its path"),
        (f"s3://bucket/{'x' * 489}", "its URI has more than 500 characters"),
    ],
)
def test_sources_that_do_not_fit(uri: str, reason: str) -> None:
    assert unfit_source(uri) == reason


@pytest.mark.parametrize(
    ("metrics", "params", "sizes"),
    [
        (0, 0, []),
        (3, 2, [(3, 2)]),
        (0, 101, [(0, 100), (0, 1)]),
        (250, 100, [(100, 100), (100, 0), (50, 0)]),
    ],
)
def test_batches(metrics: int, params: int, sizes: list[tuple[int, int]]) -> None:
    points = [MetricPoint("m", 1.0, 1, step) for step in range(metrics)]
    texts = {f"p{number}": "v" for number in range(params)}
    found = list(batches(points, texts))
    assert [(len(some), len(others)) for some, others in found] == sizes
    assert [point for some, _ in found for point in some] == points
    assert {key: value for _, some in found for key, value in some.items()} == texts
