from __future__ import annotations

import pytest

from daemon.training_job.tags import JobTags, SyncTagAbsent, TagKeys, TagsIncomplete, read_tags
from tests.support.aws_vectors import tags

FULL = {
    "MODEL_DB_SYNC": "true",
    "MODEL_DB_PROJECT_NAME": "churn",
    "MODEL_DB_PROJECT_USER": "amara.okafor",
    "MODEL_DB_PROJECT_DESC": "Who leaves",
    "MODEL_DB_MODEL_NAME": "churn-xgb",
    "MODEL_DB_MODEL_TYPE": "XGBoost",
}
KEYS = TagKeys()


def test_all_six() -> None:
    assert read_tags(FULL, KEYS) == JobTags(
        "churn", "amara.okafor", "Who leaves", "churn-xgb", "XGBoost"
    )


@pytest.mark.parametrize("value", ["", " ", "false", "\u0000"])
def test_the_sync_tag_may_have_any_value(value: str) -> None:
    assert isinstance(read_tags(FULL | {"MODEL_DB_SYNC": value}, KEYS), JobTags)


def test_without_the_sync_tag_the_others_do_not_matter() -> None:
    assert (
        read_tags({key: value for key, value in FULL.items() if key != "MODEL_DB_SYNC"}, KEYS)
        == SyncTagAbsent()
    )
    assert read_tags({}, KEYS) == SyncTagAbsent()


def test_keys_are_case_sensitive() -> None:
    assert read_tags({key.lower(): value for key, value in FULL.items()}, KEYS) == SyncTagAbsent()


def test_what_is_missing_is_named_in_order() -> None:
    assert read_tags({"MODEL_DB_SYNC": "1"}, KEYS) == TagsIncomplete(
        (
            "MODEL_DB_PROJECT_NAME",
            "MODEL_DB_PROJECT_USER",
            "MODEL_DB_PROJECT_DESC",
            "MODEL_DB_MODEL_NAME",
            "MODEL_DB_MODEL_TYPE",
        )
    )


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0", "\u3000", "\u0000", "\x85\x1f"])
def test_a_blank_value_counts_as_missing(blank: str) -> None:
    assert read_tags(FULL | {"MODEL_DB_MODEL_NAME": blank}, KEYS) == TagsIncomplete(
        ("MODEL_DB_MODEL_NAME",)
    )


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("  two  words ", "two  words"),
        ("需求预测 - прогноз", "需求预测 - прогноз"),
        ("a\u0000b", "a b"),
        ("a\r\n\tb\u0007", "a b"),
        ("XG\ud800Boost", "XG\ufffdBoost"),
        ("🚀", "🚀"),
    ],
)
def test_values_are_kept_but_for_what_no_target_can_store(value: str, read: str) -> None:
    found = read_tags(FULL | {"MODEL_DB_MODEL_TYPE": value}, KEYS)
    assert isinstance(found, JobTags)
    assert found.model_type == read


def test_keys_can_be_configured() -> None:
    keys = TagKeys("sync-to-modeldb", "project", "user", "description", "model", "kind")
    assert isinstance(read_tags(tags("custom-keys.json"), keys), JobTags)
    assert read_tags(FULL, keys) == SyncTagAbsent()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("untagged.json", SyncTagAbsent()),
        ("absent-member.json", SyncTagAbsent()),
        ("no-sync-tag.json", SyncTagAbsent()),
        ("half-tagged.json", TagsIncomplete(("MODEL_DB_PROJECT_USER", "MODEL_DB_MODEL_TYPE"))),
        ("half-tagged-type.json", TagsIncomplete(("MODEL_DB_MODEL_TYPE",))),
        ("empty-value.json", TagsIncomplete(("MODEL_DB_MODEL_NAME",))),
        ("blank-value.json", TagsIncomplete(("MODEL_DB_PROJECT_NAME",))),
    ],
)
def test_list_tags_answers(file: str, expected: object) -> None:
    assert read_tags(tags(file), KEYS) == expected


@pytest.mark.parametrize("file", ["full.json", "unicode.json", "fifty.json"])
def test_list_tags_answers_with_all_six(file: str) -> None:
    assert isinstance(read_tags(tags(file), KEYS), JobTags)
