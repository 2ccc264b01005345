"""EventBridge's event ``Tag Change on Resource``: somebody changed the tags of a resource, perhaps
long after its last event (Tag Editor user guide, "Monitor tag changes").

That SageMaker's training jobs send it is inferred, so what it is about is decided by the ARN alone,
not by ``service`` and ``resource-type``.
"""

from __future__ import annotations

from daemon.training_job.event_members import Malformed, plain, type_of

SOURCE = "aws.tag"
DETAIL_TYPE = "Tag Change on Resource"


def tag_keys(detail: object) -> frozenset[str]:
    """Keys of the tags there are after the change; of those that were changed, if it does not tell.

    A key that was changed and is not there was removed, for example with its job.

    Raises:
        Malformed: neither is given in a form that can be read.
    """
    members = detail if isinstance(detail, dict) else {}
    for word in ("tags", "changedtagkeys"):
        for member, value in members.items():
            keys = _keys(value) if plain(member) == word else None
            if keys is not None:
                return frozenset(keys)
    raise Malformed(
        f"detail of {DETAIL_TYPE} is {type_of(detail)} with neither tags nor changed-tag-keys"
    )


def _keys(value: object) -> set[str] | None:
    if isinstance(value, dict):
        return set(value)
    if not isinstance(value, list):
        return None
    items = [item.get("Key", item.get("key")) if isinstance(item, dict) else item for item in value]
    return {item for item in items if isinstance(item, str)}
