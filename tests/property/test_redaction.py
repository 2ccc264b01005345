"""Values under secret keys never leave the program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.redaction.keys import hides
from daemon.redaction.redactor import REDACTED, Redactor
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags
from tests.property.descriptions import REDACT, usable_descriptions
from tests.property.texts import texts

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

TAGS = JobTags("churn", "amara.okafor", "Who leaves", "churn-xgb", "XGBoost")
SECRET = "c4n4ry-9f2e"

NAMES = (
    "password",
    "db passwd",
    "api key",
    "hf token",
    "client secret",
    "private key",
    "credentials",
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@st.composite
def secret_keys(draw: st.DrawFn) -> str:
    """Secret keys in any spelling, with any word before or behind."""
    name = [*draw(st.sampled_from(NAMES)).split()]
    name = draw(st.sampled_from(([], ["my"], ["wandb"], ["x", "2"]))) + name
    separator = draw(st.sampled_from(("-", "_", ".", " ", "")))
    key = separator.join(name)
    return draw(st.sampled_from((key, key.upper(), "".join(map(str.capitalize, name)))))


@st.composite
def runs_with_secrets(draw: st.DrawFn) -> TrainingRun:
    """Runs with a secret in hyperparameters, tags and environment; the failure reason quotes some
    of them.
    """
    secrets = draw(
        st.lists(st.builds(f"{{}}{SECRET}{{}}".format, words, words), min_size=1, max_size=3)
    )
    texts_of_secrets = [draw(st.sampled_from((secret, json.dumps(secret)))) for secret in secrets]
    keys = draw(st.lists(secret_keys(), min_size=3, max_size=3, unique=True))
    description = draw(usable_descriptions()) | {
        "FailureReason": draw(words)
        + draw(words).join([*secrets, *texts_of_secrets, f"e{SECRET}", "--password"]),
        "Environment": {draw(secret_keys()): f"e{SECRET}"},
    }
    hyperparameters: dict[str, Any] = {
        "lr": "0.1",
        **dict(zip(keys, texts_of_secrets, strict=False)),
    }
    return training_run(
        DescribedJob.of(description | {"HyperParameters": hyperparameters}),
        TAGS,
        {keys[0]: secrets[0], "team": "ml"},
        REDACT,
    )


@given(runs_with_secrets())
def test_no_target_is_told_what_is_secret(run: TrainingRun) -> None:
    assert SECRET not in repr(run)
    assert SECRET not in json.dumps(map_run(run).body) + repr(map_run(run))
    for metadata_store in (True, False):
        assert SECRET not in repr(map_job(run, metadata_store=metadata_store))
    redacted = [parameter for parameter in run.hyperparameters if parameter.text == REDACTED]
    assert redacted
    assert all(parameter.value == REDACTED for parameter in redacted)
    assert run.hyperparameters[0].text == "0.1"


@given(secret_keys())
def test_a_secret_key_is_one_in_any_spelling(key: str) -> None:
    assert hides(key, SECRET, REDACT)


@given(texts(), st.lists(texts(), min_size=1, max_size=3), texts())
def test_a_text_is_without_the_secrets_it_quotes(
    before: str, secrets: list[str], behind: str
) -> None:
    quoted = before + "".join(f"={secret}=" for secret in secrets) + behind
    cleared = Redactor().text(quoted, secrets).text
    for secret in secrets:
        if len(secret) >= 4 and not set(secret) & set(REDACTED) and "=" not in secret:
            assert secret not in cleared
