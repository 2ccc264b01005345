"""Names of what the table holds: partition keys, sort keys and the values of the indexes. Pure.

| partition key | sort key | holds |
|---|---|---|
| ``job#<job name>`` | ``<kind> <place>`` | the document of one job name in one target |
| | ``<kind> <place>#row#<ARN>#<creation time>`` | a further row of it, for the indexes only |
| ``lock#<lock name>`` | ``<kind> <place>`` | the document of a name lock of no run |
| ``targets`` | ``<kind> <place>`` | since when the table is in use for a target |
| ``note#<kind> <place>`` | name of the note | |
| ``watch#<kind> <place>`` | ``<ARN>#<creation time>`` | |
| ``request#<kind> <place>`` | request id | |
| ``writer#<server id>`` | ``lease`` | of all targets |
| ``message#<message id>`` | ``rejected`` | of all targets |
| ``table#`` | ``format`` | of all items |
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

from daemon.checkpoint import rules

if TYPE_CHECKING:
    from daemon.targets.place import TargetPlace

DOCUMENT = "document"
"""String attribute: everything else of a document as JSON."""
BODY = "body"
"""String attribute: the kept body of a rejected message."""

TABLE = "table#"
FORMAT = "format"
TARGETS = "targets"
LEASE = "lease"
REJECTED = "rejected"

SHARDS = 4
"""Hash keys among which the entries of one state are spread: each takes 1000 writes a second."""
WITHOUT_ROW = "none"
"""In the place of the state: documents that have no row, so that old ones are found."""
MESSAGE = "message"

_LONGEST = 900
"""Bytes of a key. DynamoDB takes 1024 for a sort key."""
_LONGEST_DOCUMENT_KEY = 700
"""The keys of further rows begin with it."""


def job_partition(job_name: str) -> str:
    """The partition of a job name, in any case of letters."""
    return _short(f"job#{job_name.lower()}")


def arn_partition(job_arn: str) -> str:
    """The partition of the job of an ARN, or of an operation."""
    return job_partition(job_arn.rpartition("/")[2])


def lock_partition(lock_name: str) -> str:
    """The partition that keeps a name lock: for a run, that of the job of the same name; for any
    other name, one of its own.
    """
    _, of_run, name = lock_name.partition("/run/")
    return job_partition(name.rpartition("/")[2]) if of_run else _short(f"lock#{lock_name}")


def document_key(target: TargetPlace) -> str:
    """The sort key of a target's document."""
    return _short(f"{target.kind} {target.place}", longest=_LONGEST_DOCUMENT_KEY)


def row_prefix(document: str) -> str:
    """What the sort keys of a document's further rows begin with."""
    return f"{document}#row#"


def row_key(document: str, job_arn: str, creation_time: str) -> str:
    """The sort key of a further row of a document."""
    return _short(f"{row_prefix(document)}{job_arn}#{creation_time}")


def target_partition(what: str, target: TargetPlace) -> str:
    """The partition of what is kept once for each target: ``target``, ``note``, ..."""
    return _short(f"{what}#{target.kind} {target.place}")


def writer_partition(server_id: str) -> str:
    return _short(f"writer#{server_id}")


def message_partition(message_id: str) -> str:
    return _short(f"message#{message_id}")


def outcome(state: str, partition: str) -> str:
    """The hash key in `Index.BY_OUTCOME` of an item of a partition."""
    return f"{state}#{zlib.crc32(partition.encode()) % SHARDS}"


def outcomes(state: str) -> list[str]:
    """All hash keys of a state in `Index.BY_OUTCOME`."""
    return [f"{state}#{shard}" for shard in range(SHARDS)]


def project_group(project: str) -> str:
    """The hash key in `Index.BY_GROUP` of the jobs of a project."""
    return _short(f"project#{ascii_lower(project)}")


def message_group(job_arn: str) -> str:
    """The hash key in `Index.BY_GROUP` of the rejected messages about an ARN."""
    return _short(f"message-about#{job_arn}")


def ascii_lower(text: str) -> str:
    """In lower case as far as it is ASCII: as the SQLite store compares names."""
    return "".join(each.lower() if each.isascii() else each for each in text)


def named_key(name: str) -> str:
    """A sort key that is somebody's choice, short enough and not empty."""
    return _short(f"={name}")


def _short(key: str, *, longest: int = _LONGEST) -> str:
    """The key, or where it is too long its beginning and a hash of the whole."""
    encoded = rules.storable(key).encode()
    if len(encoded) <= longest:
        return encoded.decode()
    digest = hashlib.sha256(encoded).hexdigest()
    return f"{encoded[:longest].decode(errors='ignore')}#{digest}"
