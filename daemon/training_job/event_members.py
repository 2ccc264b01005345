"""Members of a message that say which training job it is about, in any spelling.

An InputTransformer of EventBridge, a Lambda function or a person names members freely:
``trainingJobName``, ``training_job_name``, ``modelTrainingJobName``, ``jobArn``. Members are
compared without case and punctuation. SageMaker's own spelling takes precedence over a prefix or
suffix, so that a member that SageMaker adds to its events does not make them ambiguous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from daemon.redaction.redactor import without_shapes
from daemon.text import is_plain, one_line
from daemon.training_job.identity import JOB_NAME, JobArn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SHOWN_CHARACTERS = 80
"""Of a value, in an error."""
_SEARCHED_CHARACTERS = 1_000
"""A secret that begins in a quotation is recognised by what follows."""

_PUNCTUATION = re.compile(r"[^0-9a-z]+")
_MENTION = re.compile(r":training-job\\*/", re.IGNORECASE)
"""Of an ARN, perhaps inside JSON in a string, whose slashes may be escaped."""
_PATH_CHARACTERS = 200
_MOST_VALUES = 100_000
"""Of a document that is searched for a training job."""

_NAME, _ARN, _STATUS, _CREATED = (
    "trainingjobname",
    "trainingjobarn",
    "trainingjobstatus",
    "creationtime",
)
_NAMES_BESIDE_AN_ARN = ("jobname", "trainingjob", "name")
"""The first of them that is there counts."""
_STATUSES_BESIDE_A_JOB = frozenset({"status", "jobstatus", "state", "jobstate"})
_TAGS = frozenset({"tags", "jobtags", "trainingjobtags"})

_WORDS = {
    word.lower(): word
    for word in ("InProgress", "Completed", "Failed", "Stopping", "Stopped", "Deleting")
}
"""TrainingJobStatus (botocore's service model)."""

_WORD = re.compile(r"[A-Za-z]{1,64}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]{1,16}){1,3}-[0-9]{1,2}", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE]\+?[0-9]+)?")
_DATE_AND_TIME = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ].+")

_MILLISECONDS_FROM = 1e11
"""Numbers below are seconds (until the year 5138), others milliseconds (since 1973)."""
_EPOCH = datetime.fromtimestamp(0, UTC)

_PARTITIONS = {  # botocore's endpoints.json, regionRegex of each partition but aws
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}


class Malformed(Exception):
    """The body is malformed; the text says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class JobMembers:
    """What an object says about its training job."""

    name: str
    arn: JobArn | None
    status: str | None
    creation_time: datetime | None
    tags: Mapping[str, str] | None

    @classmethod
    def of(
        cls,
        document: Mapping[str, Any],
        envelope: Mapping[str, Any],
        *,
        around: Mapping[str, Any] | None = None,
        resources: tuple[JobArn, ...] = (),
    ) -> Self:
        """Reads the members.

        Args:
            document: an event's detail, or what somebody made of it.
            envelope: has the account and region of the event; empty if there is none.
            around: account and region for a job without an ARN, if the envelope has none.
            resources: ARNs of training jobs that the envelope says the event is about.

        Raises:
            Malformed: they name no training job, or two, or contradict the envelope.
        """
        members = _Members(document)
        name, arn = _identity(members, resources)
        if arn is None:
            arn = _arn_of(name, {**(around or {}), **envelope})
        else:
            _require_same_place(arn, envelope)
        return cls(
            name,
            arn,
            _status(members),
            _creation_time(members),
            next((tags for tags in map(_tags, members.spelled(_TAGS)) if tags), None),
        )


class _Members:
    """An object's members that have a value, by the letters and digits of their names."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.all = [
            (plain(member), member, value)
            for member, value in document.items()
            if value is not None and value != ""
        ]

    def called(self, word: str) -> list[tuple[str, Any]]:
        """The members of this name, else those that contain it, each with its value."""
        exact = [(member, value) for found, member, value in self.all if found == word]
        return exact or [(member, value) for found, member, value in self.all if word in found]

    def exactly(self, word: str) -> list[tuple[str, Any]]:
        return [(member, value) for found, member, value in self.all if found == word]

    def spelled(self, words: frozenset[str]) -> Iterator[Any]:
        return (value for found, _, value in self.all if found in words)


def plain(member: str) -> str:
    """A member's name in lower case without punctuation: all spellings are the same."""
    return _PUNCTUATION.sub("", member.lower())


def reads_like_name(member: str) -> bool:
    """Whether a member reads like TrainingJobName, in any spelling."""
    return _NAME in plain(member)


def names_job(document: Mapping[str, Any]) -> bool:
    """Whether a member that reads like TrainingJobName or is TrainingJobArn has a value."""
    return any(
        value is not None and value != "" and (reads_like_name(member) or plain(member) == _ARN)
        for member, value in document.items()
    )


def has_status(document: Mapping[str, Any]) -> bool:
    """Whether a member reads like TrainingJobStatus in any spelling."""
    return any(_STATUS in plain(member) for member in document)


def arns_in(document: Mapping[str, Any]) -> dict[str, tuple[str, JobArn]]:
    """The ARNs of training jobs among an object's texts and lists of texts, by their key, each
    with its member.

    Raises:
        Malformed: a text looks like such an ARN and is none.
    """
    found: dict[str, tuple[str, JobArn]] = {}
    for member, value in document.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text[:4].lower() == "arn:" and _MENTION.search(text):
                arn = _arn(member, text)
                found.setdefault(arn.key, (member, arn))
    return found


def mention_of_job(document: object) -> str | None:
    """Where a training job's ARN or a member that reads like TrainingJobName stands, as a path.
    None: nowhere. Documents too large to be searched count as mentioning one.
    """
    left = [("", document)]
    for _ in range(_MOST_VALUES):
        if not left:
            return None
        path, value = left.pop()
        if isinstance(value, str):
            if _MENTION.search(value):
                return shown(path) or "its text"
        elif isinstance(value, list):
            left += [
                (f"{path}[{index}]"[:_PATH_CHARACTERS], item) for index, item in enumerate(value)
            ]
        elif isinstance(value, dict):
            for member, item in value.items():
                place = f"{path}.{member}"[:_PATH_CHARACTERS].lstrip(".")
                if reads_like_name(member) or _MENTION.search(member):
                    return shown(place)
                left.append((place, item))
    return "a document too large to search"


def time_of(value: object) -> datetime | None:
    """A time from epoch milliseconds or seconds or ISO 8601 (UTC by default), else None."""
    try:
        if isinstance(value, str):
            return _epoch_time(float(value)) if _NUMBER.fullmatch(value) else _iso_time(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _epoch_time(value)
    except (ValueError, OverflowError):
        return None
    return None


def shown(value: object) -> str:
    """A value for an error text: text is shortened, other values are shown by their type."""
    if not isinstance(value, str):
        return type_of(value)
    return one_line(without_shapes(value[:_SEARCHED_CHARACTERS])[:SHOWN_CHARACTERS])


def type_of(value: object) -> str:
    """The type of a JSON value, in words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


def _identity(members: _Members, resources: tuple[JobArn, ...]) -> tuple[str, JobArn | None]:
    """Name and ARN, checked against each other."""
    names: dict[str, tuple[str, str]] = {}
    arns: dict[str, tuple[str, JobArn]] = {}
    for member, value in members.called(_NAME):
        # before the name: an ARN is no name
        if isinstance(value, str) and _MENTION.search(value):
            arn = _arn(member, value)
            arns.setdefault(arn.key, (member, arn))
        elif isinstance(value, str) and JOB_NAME.fullmatch(value):
            names.setdefault(value.lower(), (member, value))
        else:
            raise Malformed(
                f"{shown(member)} is {shown(value)}; SageMaker takes 1 to 63 letters, digits and "
                "hyphens"
            )
    for member, value in members.exactly(_ARN):
        arn = _arn(member, value)
        arns.setdefault(arn.key, (member, arn))
    arns = arns or arns_in(members.document)
    same = [arn for arn in resources if arn.key in arns or arn.name.lower() in names]
    arns |= {arn.key: ("resources", arn) for arn in same or resources if arn.key not in arns}
    if arns and not names:
        names = _names_beside_an_arn(members)
    return _agreed(names, arns)


def _names_beside_an_arn(members: _Members) -> dict[str, tuple[str, str]]:
    for word in _NAMES_BESIDE_AN_ARN:
        names = {
            value.lower(): (member, value)
            for member, value in members.exactly(word)
            if isinstance(value, str) and not _MENTION.search(value)
        }
        if names:
            return names
    return {}


def _agreed(
    names: Mapping[str, tuple[str, str]], arns: Mapping[str, tuple[str, JobArn]]
) -> tuple[str, JobArn | None]:
    """The one job that all names and ARNs are of."""
    if len(names) > 1 or len(arns) > 1:
        said = [f"{shown(member)} {shown(name)}" for member, name in names.values()]
        said += [f"{shown(member)} {arn.text}" for member, arn in arns.values()]
        raise Malformed(f"{' and '.join(said[:3])} name different training jobs")
    _, arn = next(iter(arns.values()), ("", None))
    if not names:
        if arn is None:
            raise Malformed("neither TrainingJobName nor TrainingJobArn is given")
        return arn.name, arn
    [(member, name)] = names.values()
    if arn is not None and name.lower() != arn.name.lower():
        [(its_member, _)] = arns.values()
        raise Malformed(
            f"{shown(member)} {shown(name)} and {shown(its_member)} {arn.text} name two jobs"
        )
    return name, arn


def _arn(member: str, value: object) -> JobArn:
    if isinstance(value, str) and value.isascii():
        try:
            return JobArn.parse(value)
        except ValueError:
            pass
    raise Malformed(f"{shown(member)} is {shown(value)}, not the ARN of a training job")


def _require_same_place(arn: JobArn, envelope: Mapping[str, Any]) -> None:
    for member, value in (("account", arn.account), ("region", arn.region)):
        stated = envelope.get(member)
        if isinstance(stated, str) and stated != value:
            raise Malformed(
                f"{member} {shown(stated)} and TrainingJobArn {arn.text} contradict each other"
            )


def _arn_of(name: str, envelope: Mapping[str, Any]) -> JobArn | None:
    account, region = envelope.get("account"), envelope.get("region")
    if not (
        isinstance(account, str)
        and _ACCOUNT.fullmatch(account)
        and isinstance(region, str)
        and region.isascii()
    ):
        return None
    partition = next(
        (found for prefix, found in _PARTITIONS.items() if region.startswith(prefix)), "aws"
    )
    try:
        return JobArn.parse(f"arn:{partition}:sagemaker:{region}:{account}:training-job/{name}")
    except ValueError:
        return None


def place_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Account and region, in the form of an envelope, where an object that is none has them."""
    found = {}
    for word, names, form in (
        ("account", ("account", "accountid", "awsaccountid"), _ACCOUNT),
        ("region", ("region",), _REGION),
    ):
        values = {
            value
            for member, value in document.items()
            if plain(member) in names and isinstance(value, str) and form.fullmatch(value)
        }
        if len(values) == 1:
            found[word] = values.pop()
    return found


def _status(members: _Members) -> str | None:
    """TrainingJobStatus. In SageMaker's own spelling any word is one; in others only those known
    today, because the rest may be of something else: DescribeTrainingJob has the truth.
    """
    own = members.document.get("TrainingJobStatus")
    if own is not None and own != "":
        if not isinstance(own, str) or not _WORD.fullmatch(own):
            raise Malformed(f"TrainingJobStatus is {shown(own)}, not a word")
        return _WORDS.get(own.lower(), own)
    values = [value for _, value in members.called(_STATUS)]
    known = _known_statuses(values or members.spelled(_STATUSES_BESIDE_A_JOB))
    return known.pop() if len(known) == 1 else None


def _known_statuses(values: Iterable[Any]) -> set[str]:
    words = (_WORDS.get(value.lower()) for value in values if isinstance(value, str))
    return {word for word in words if word is not None}


def _creation_time(members: _Members) -> datetime | None:
    own = members.document.get("CreationTime")
    if own is not None:
        return time_of(own)
    values = members.exactly(_CREATED) or members.called(f"trainingjob{_CREATED}")
    moments = {moment for moment in (time_of(value) for _, value in values) if moment is not None}
    return moments.pop() if len(moments) == 1 else None


def _tags(value: object) -> Mapping[str, str] | None:
    """Tags as a map or a list of {Key, Value}: AWS's documentation and its schema disagree."""
    if isinstance(value, list):
        pairs = [(item.get("Key"), item.get("Value")) for item in value if isinstance(item, dict)]
        if len(pairs) != len(value):
            return None
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        return None
    tags = {
        key: text
        for key, text in pairs
        if isinstance(key, str) and isinstance(text, str) and is_plain(key + text)
    }
    return tags if tags and len(tags) == len(pairs) else None


def _epoch_time(value: float) -> datetime:
    return _EPOCH + timedelta(seconds=value / 1000 if abs(value) >= _MILLISECONDS_FROM else value)


def _iso_time(text: str) -> datetime | None:
    if not _DATE_AND_TIME.fullmatch(text):
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
