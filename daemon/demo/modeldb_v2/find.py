"""The find and list calls of the ModelDB V2 stand-in: predicates, order and pages, as watched on
ModelDB 2.0.8.1.

* Default order: newest change first. Texts sort by code point (PostgreSQL's C collation). What is
  equal stays in the order of its creation, or in the reverse of it when the order is descending; on
  the real server that order is chance.
* `EQ` on a name and on an attribute minds the case; `CONTAIN` on a name does not, and on an
  attribute it finds nothing.
* `NE` finds everything that `EQ` does not, what lacks the key included.
* The key of an attribute, metric or hyperparameter is what follows the last dot.
* A number sought under a key where another entity has a text: 500 with nothing but code 2. The real
  server fails on any row of its database, the stand-in on those that it looks at.
* `ids_only` gives only ids; `total_records` is missing when it is 0; a page needs both a number and
  a limit, else all comes.

Not imitated, and answered 501 with a text that says so: predicates with lists and objects,
comparing texts of key-values for order, sorting by metrics and the like.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2.messages import (
    INTERNAL,
    INVALID_ARGUMENT,
    UNIMPLEMENTED,
    UNKNOWN,
    ApiError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from daemon.demo.modeldb_v2.store import Entity, Row

_NUMBERS = ("date_created", "date_updated", "start_time", "end_time")
_TEXTS = (
    "id",
    "project_id",
    "experiment_id",
    "name",
    "description",
    "owner",
    "code_version",
    "parent_id",
    "short_name",
)
_KEY_VALUES = ("attributes", "metrics", "hyperparameters")
_PATHS = ("artifacts", "datasets")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "EQ": operator.eq,
    "GT": operator.gt,
    "GTE": operator.ge,
    "LT": operator.lt,
    "LTE": operator.le,
}


def page(
    entities: Iterable[Entity], request: Mapping[str, Any], answer: str, call: str
) -> dict[str, Any]:
    """The entities that satisfy all predicates of a request, sorted, and of those the page that it
    asks for.

    Args:
        entities: where to look, already narrowed to the project or experiment.
        request: predicates, ids_only, sort_key, ascending, page_number, page_limit; all may be
            missing.
        answer: the name of the list in the answer.
        call: the message type named in error details.

    Raises:
        ApiError: a predicate, sort key or page that the server refuses.
    """
    number, limit = request.get("page_number", 0), request.get("page_limit", 0)
    if number < 0 or limit < 0:
        raise _internal(call)
    order = _order(request.get("sort_key", "date_updated"), call)
    found = list(entities)
    for predicate in request.get("predicates", ()):
        holds = _predicate(predicate, call)
        found = [entity for entity in found if holds(entity.row)]
    found.sort(
        key=lambda entity: (order(entity.row), entity.serial),
        reverse=not request.get("ascending", False),
    )
    shown = found[(number - 1) * limit : number * limit] if number and limit else found
    ids_only = request.get("ids_only", False)
    result: dict[str, Any] = (
        {answer: [{"id": entity.id} if ids_only else entity.row for entity in shown]}
        if shown
        else {}
    )
    if found:
        result["total_records"] = str(len(found))
    return result


def sought(request: Mapping[str, Any], key: str) -> str | None:
    """The text that a predicate wants a key to be equal to, for choosing an index."""
    for predicate in request.get("predicates", ()):
        text = predicate.get("value")
        if (
            predicate.get("key") == key
            and isinstance(text, str)
            and predicate.get("operator", "EQ") == "EQ"
        ):
            return text
    return None


def _internal(call: str) -> ApiError:
    return ApiError(INTERNAL, "Internal server error", f"{call}.Response")


def _not_imitated(what: str) -> ApiError:
    return ApiError(UNIMPLEMENTED, f"the ModelDB V2 stand-in does not imitate {what}")


def _order(sort_key: str, call: str) -> Callable[[Row], Any]:
    if sort_key in _NUMBERS:
        return lambda row: int(row.get(sort_key, 0))
    if sort_key in _TEXTS:
        return lambda row: row.get(sort_key, "")
    if sort_key.partition(".")[0] in (*_KEY_VALUES, *_PATHS, "tags"):
        raise _not_imitated(f"sorting by {sort_key}")
    raise _internal(call)


def _predicate(predicate: Mapping[str, Any], call: str) -> Callable[[Row], bool]:
    key, wanted, named = (
        predicate.get("key", ""),
        predicate.get("value"),
        predicate.get("operator", "EQ"),
    )
    if not key:
        raise ApiError(INVALID_ARGUMENT, "Key not found in predicate")
    if named == "IN":
        raise ApiError(
            INVALID_ARGUMENT, "Operator `IN` supported only with the linked_artifact_id as a key"
        )
    if wanted is None:
        raise ApiError(
            UNIMPLEMENTED,
            "Unknown 'Value' type recognized, valid 'Value' type are NUMBER_VALUE, STRING_VALUE, "
            "BOOL_VALUE",
        )
    if isinstance(wanted, bool) or not isinstance(named, str):
        raise _internal(call)
    if not isinstance(wanted, str | int | float):
        raise _not_imitated("predicates with lists or objects")
    negated = named in {"NE", "NOT_CONTAIN"}
    holds = _positive(key, wanted, {"NE": "EQ", "NOT_CONTAIN": "CONTAIN"}.get(named, named), call)
    return (lambda row: not holds(row)) if negated else holds


def _positive(key: str, wanted: str | float, named: str, call: str) -> Callable[[Row], bool]:
    section, _, rest = key.partition(".")
    within = rest.rpartition(".")[2]
    if key in _NUMBERS:
        return _on_number(key, wanted, named)
    if key in _TEXTS:
        return _on_text(key, wanted, named)
    if key == "tags":
        return lambda row: any(tag == wanted for tag in row.get("tags", ()))
    if section in _KEY_VALUES and within:
        return _on_key_value(section, within, wanted, named)
    if section in _PATHS and within:
        return lambda row: any(
            artifact.get("key") == within and artifact.get("path") == wanted
            for artifact in row.get(section, ())
        )
    raise _internal(call)


def _on_number(key: str, wanted: str | float, named: str) -> Callable[[Row], bool]:
    try:
        number = float(wanted)
    except ValueError as error:
        raise ApiError(UNKNOWN) from error
    compare = _COMPARISONS.get(named)
    if compare is None:
        raise _not_imitated(f"{named} on {key}")
    return lambda row: compare(int(row.get(key, 0)), number)


def _on_text(key: str, wanted: str | float, named: str) -> Callable[[Row], bool]:
    if not isinstance(wanted, str):
        raise ApiError(UNKNOWN)
    if named == "CONTAIN":
        return lambda row: wanted.casefold() in row.get(key, "").casefold()
    compare = _COMPARISONS[named]
    return lambda row: compare(row.get(key, ""), wanted)


def _on_key_value(
    section: str, within: str, wanted: str | float, named: str
) -> Callable[[Row], bool]:
    if named == "CONTAIN":
        return lambda _row: False
    compare = _COMPARISONS[named]
    if isinstance(wanted, str):
        if named != "EQ":
            raise _not_imitated(f"{named} on a text in {section}")
        return lambda row: any(
            item.get("key") == within and item.get("value") == wanted
            for item in row.get(section, ())
        )

    def any_number(row: Row) -> bool:
        numbers = [item.get("value") for item in row.get(section, ()) if item.get("key") == within]
        if any(
            isinstance(number, bool) or not isinstance(number, int | float) for number in numbers
        ):
            raise ApiError(UNKNOWN)
        return any(compare(number, wanted) for number in numbers)

    return any_number
