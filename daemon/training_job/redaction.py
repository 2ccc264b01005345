"""Redaction of a training run, before any target sees it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.redaction.redactor import REDACTED, Redactor
from daemon.text import cleaned
from daemon.training_job.field_readers import texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import DataclassInstance

    from daemon.training_job.training_run import TrainingRun

__all__ = ["REDACTED", "RunRedaction"]

_OWN_WORD = re.compile(r"(?!\.{0,2}/|arn:|[a-z0-9]+://)\S{12,}")
"""Known secrets that are searched for in every text. Shorter ones may be ordinary words; locations
and phrases are no secrets where they stand under another key. The failure reason is searched for
all."""
_DONE = frozenset({"all_tags", "failure_reason", "hyperparameters", "notes"})
"""Redacted where they are read."""
_OF_THE_JOB = frozenset({"arn", "mark", "name"})
_OF_THE_PLACE = frozenset({"model_name", "model_type", "project_name", "project_user"})
"""Where a run is stored: two jobs of one project must not differ in it for their own secrets."""


@lru_cache
def _members(record: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(member.name for member in dataclasses.fields(record))


def _in_words(member: str) -> str:
    return member.replace("_", " ")


_Record = TypeVar("_Record", bound="DataclassInstance")


@dataclass(slots=True)
class RunRedaction:
    """Redacts the parts of one run, and notes what was hidden."""

    _redactor: Redactor
    _known: tuple[str, ...]
    """Secrets of the job that other texts may quote."""
    _notes: list[str] = field(default_factory=list)
    _without_secrets: set[str] = field(default_factory=set)
    """Texts of the run in which nothing was found: many are there several times."""

    @classmethod
    def of(
        cls, description: Mapping[str, Any], tags: Mapping[str, str], redact: Sequence[str]
    ) -> RunRedaction:
        """Collects the job's secrets.

        Args:
            description: of the job. Its environment is not copied, but searched for secrets, which
                the failure reason may quote.
            tags: of the job.
            redact: the patterns of ``jobs.redact``.
        """
        redactor = Redactor(tuple(redact))
        given = [
            *texts(description, "HyperParameters").items(),
            *texts(description, "Environment").items(),
            *tags.items(),
        ]
        secrets = [secret for key, value in given for secret in redactor.value(key, value).secrets]
        return cls(redactor, tuple(dict.fromkeys(map(cleaned, secrets))))

    def name(self, name: str) -> str:
        """The key of a hyperparameter or tag."""
        return self._redactor.name(name)

    def value(self, what: str, key: str, value: str) -> str:
        """The value of a hyperparameter or tag.

        Args:
            what: `hyperparameter` or `tag`, for the note.
            key: as described.
            value: the value.
        """
        result = self._redactor.value(key, value, self._long)
        if result.kinds:
            named = f"{what} '{self.name(cleaned(key))}'"
            self._note(
                f"{named} redacted"
                if result.text == REDACTED
                else f"{named}: {result.what} redacted"
            )
        return result.text

    def failure_reason(self, reason: str | None) -> str | None:
        """The failure reason, which quotes the command line with all hyperparameters."""
        if reason is None:
            return None
        result = self._redactor.text(reason, self._known, cut=True)
        if result.kinds:
            self._note(f"failure reason: {result.what} redacted")
        return result.text

    def everywhere(self, run: TrainingRun) -> TrainingRun:
        """The run with all its other texts redacted, and with the notes."""
        redacted = self._record(run, left=_DONE | _OF_THE_JOB)
        return dataclasses.replace(redacted, notes=(*run.notes, *self._notes))

    @property
    def _long(self) -> tuple[str, ...]:
        return tuple(secret for secret in self._known if _OWN_WORD.fullmatch(secret))

    def _record(
        self, record: _Record, within: str = "", left: frozenset[str] = frozenset({"name"})
    ) -> _Record:
        """A part of the run, redacted.

        Args:
            record: the part.
            within: what it is a part of, for the notes.
            left: members that stay as they are.
        """
        changed = {}
        for member in _members(type(record)):
            value = getattr(record, member)
            if value is None or member in left:
                continue
            redacted = self._any(value, within, member)
            if redacted is not value and redacted != value:
                changed[member] = redacted
        return dataclasses.replace(record, **changed) if changed else record

    def _any(self, value: Any, within: str, member: str) -> Any:  # noqa: ANN401 - any member
        if isinstance(value, str):
            return self._text(value, within, member)
        if isinstance(value, tuple):
            return tuple(self._any(item, within, member) for item in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            name = getattr(value, "name", "")
            where = f"{within}{_in_words(member)}"
            return self._record(value, f"{where} {name}: " if name else f"{where}: ")
        return value

    def _text(self, text: str, within: str, member: str) -> str:
        if text in self._without_secrets:
            return text
        known = () if member in _OF_THE_PLACE else self._long
        result = self._redactor.text(text, known)
        if result.kinds:
            self._note(f"{within}{_in_words(member)}: {result.what} redacted")
        elif member not in _OF_THE_PLACE:
            self._without_secrets.add(text)
        return result.text

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)
