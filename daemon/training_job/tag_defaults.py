"""Defaults for the tags that describe project and model: templates over the other facts of a job.

A template is text with placeholders, such as ``{tag:team} models``. A placeholder may list
alternatives, of which the first with a value counts: ``{tag:team|tag:owner|"nobody"}``. ``{{`` and
``}}`` are braces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.redaction.redactor import Redactor
from daemon.text import is_plain, one_line, shortened
from daemon.training_job.field_readers import section, text
from daemon.training_job.tags import DESCRIBED_BY_TAGS, JobTags, TagsIncomplete

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from daemon.training_job.described_job import DescribedJob
    from daemon.training_job.tags import TagKeys

FACTS = ("job", "tuning_job", "pipeline", "pipeline_step", "experiment", "account", "region")
"""The placeholders besides tags."""

ALLOWED = ", ".join(["{tag:KEY}", *(f"{{{fact}}}" for fact in FACTS), "{A|B}", '{A|"text"}'])

VALUE_CHARACTERS = 256
"""The longest value of a tag in AWS, and so of a default."""

_ARN = "arn:[^:]+:sagemaker:[^:]*:[^:]*:"
_TUNING_JOB = re.compile(rf"{_ARN}hyper-parameter-tuning-job/(?P<name>[^/]+)", re.IGNORECASE)
_PIPELINE = re.compile(rf"{_ARN}pipeline/(?P<name>[^/]+)/execution/[^/]+", re.IGNORECASE)

_PART = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<inner>[^{}]*)\}|(?P<text>[^{}]+)|(?P<odd>[{}])")
_QUOTED = re.compile(r'"[^"{}|]*\S[^"{}|]*"')
_TAG_KEY_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class _Placeholder:
    """Alternatives: the name of a fact, `tag:` and a key, or a text in quotes."""

    alternatives: tuple[str, ...]

    def value(self, facts: Mapping[str, str]) -> str | None:
        for name in self.alternatives:
            value = name[1:-1] if name.startswith('"') else facts.get(name)
            if value:
                return value
        return None

    def needs(self, hidden: Container[str]) -> str:
        """What the job lacks if there is no value; some has it, but it is redacted."""
        return " or ".join(
            name.replace("tag:", "tag ", 1) + (" (its value is redacted)" if name in hidden else "")
            for name in self.alternatives
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed default."""

    parts: tuple[str | _Placeholder, ...]

    @classmethod
    def parse(cls, template: str) -> Template:
        """Parses a template.

        Raises:
            ValueError: what is wrong and what is allowed.
        """
        if not template.strip():
            raise ValueError("must not be blank")
        if not is_plain(template):
            raise ValueError("must not contain line breaks or control characters")
        parts: list[str | _Placeholder] = []
        for found in _PART.finditer(template):
            odd = found["odd"]
            if odd:
                raise ValueError(f"has an unbalanced {odd}; write {odd}{odd} for a brace")
            if found["inner"] is None:
                parts.append((found["brace"] or "")[:1] or found["text"])
            else:
                parts.append(_placeholder(found["inner"]))
        return cls(tuple(parts))

    def filled(self, facts: Mapping[str, str]) -> tuple[str, list[_Placeholder]]:
        """The text, and the placeholders without a value."""
        filled: list[str] = []
        lacking: list[_Placeholder] = []
        for part in self.parts:
            if isinstance(part, str):
                filled.append(part)
            elif value := part.value(facts):
                filled.append(value)
            else:
                lacking.append(part)
        return shortened(one_line("".join(filled)), VALUE_CHARACTERS), lacking


@dataclass(frozen=True, slots=True)
class TagDefaults:
    """The configured defaults, by the names of `JobTags`. None: the tag is required."""

    project_name: Template | None = None
    project_user: Template | None = None
    project_description: Template | None = None
    model_name: Template | None = None
    model_type: Template | None = None

    def fill(
        self,
        incomplete: TagsIncomplete,
        tags: Mapping[str, str],
        keys: TagKeys,
        job: DescribedJob,
        redact: Sequence[str],
    ) -> JobTags | TagsIncomplete:
        """The tags of a job, with defaults for those that it lacks.

        Args:
            incomplete: what `read_tags` says of the tags.
            tags: all tags of the job, as ListTags says.
            keys: the configured keys.
            job: for the other facts.
            redact: patterns of the keys of tags whose values no default may contain.
        """
        redactor = Redactor(tuple(redact))
        hidden = {f"tag:{key}" for key, value in tags.items() if redactor.value(key, value).kinds}
        of_tags = {f"tag:{key}": one_line(value) for key, value in tags.items()}
        facts = _facts(job) | _pipeline_facts(tags) | of_tags
        shown = {name: value for name, value in facts.items() if name not in hidden}
        values: list[str] = []
        defaulted, missing, details = [], [], []
        for name in DESCRIBED_BY_TAGS:
            key = getattr(keys, name)
            template: Template | None = getattr(self, name)
            if key not in incomplete.missing:
                values.append(of_tags[f"tag:{key}"])
            elif template is None:
                missing.append(key)
            else:
                value, lacking = template.filled(shown)
                values.append(value)
                defaulted.append(name)
                if lacking or not value:
                    missing.append(key)
                    needs = ", ".join(each.needs(hidden) for each in lacking) or "a value"
                    details.append(f"the default for {name} needs {needs}")
        if missing:
            return TagsIncomplete(tuple(missing), tuple(details))
        return JobTags(*values, defaulted=tuple(defaulted))


def _placeholder(inner: str) -> _Placeholder:
    alternatives = []
    for name in map(str.strip, inner.split("|")):
        before, tag, key = name.partition("tag:")
        if tag and not before and 1 <= len(key.strip()) <= _TAG_KEY_CHARACTERS:
            alternatives.append(f"tag:{key.strip()}")
        elif name in FACTS or _QUOTED.fullmatch(name):
            alternatives.append(name)
        else:
            raise ValueError(f"has the unknown placeholder {{{inner}}}; allowed: {ALLOWED}")
    return _Placeholder(tuple(alternatives))


def _facts(job: DescribedJob) -> dict[str, str]:
    """The values of `FACTS` that the job has, without those of its tags."""
    description = job.description
    tuning_job = _TUNING_JOB.fullmatch(text(description, "TuningJobArn") or "")
    found = {
        "job": job.name,
        "tuning_job": tuning_job and tuning_job["name"],
        "experiment": text(section(description, "ExperimentConfig"), "ExperimentName"),
        "account": job.arn.account,
        "region": job.arn.region,
    }
    return {name: value for name, value in found.items() if value}


def _pipeline_facts(tags: Mapping[str, str]) -> dict[str, str]:
    """The same of the tags that SageMaker Pipelines gives its jobs."""
    pipeline = _PIPELINE.fullmatch(tags.get("sagemaker:pipeline-execution-arn", ""))
    step = one_line(tags.get("sagemaker:pipeline-step-name", ""))
    return ({"pipeline": pipeline["name"]} if pipeline else {}) | (
        {"pipeline_step": step} if step else {}
    )
