"""The find and list calls of the ModelDB V2 stand-in: predicates, order and pages, as watched on
ModelDB 2.0.8.1.

* Default order: newest change first. Texts sort by code point (PostgreSQL's C collation). What is
  equal stays in the order of its creation, or in the reverse of it when the order is descending; on
  the real server that order is chance.
* The key of an attribute, metric or hyperparameter is what follows the last dot.
* `ids_only` gives only ids; `total_records` is missing when it is 0; a page needs both a number and
  a limit, else all comes.

Other predicates than the equality of a text, and a key-value that is a greater number, are answered
501; so is sorting by what is in a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2.messages import INTERNAL, UNIMPLEMENTED, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from daemon.demo.modeldb_v2.store import Entity, Row

_NUMBERS = ("date_created", "date_updated", "start_time", "end_time")
_TEXTS = ("id", "project_id", "experiment_id", "name", "description")
_KEY_VALUES = ("attributes", "metrics", "hyperparameters")


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
        ApiError: a predicate or sort key that the server refuses or the stand-in does not know.
    """
    number, limit = request.get("page_number", 0), request.get("page_limit", 0)
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


def _refused(key: str, call: str) -> ApiError:
    if key.partition(".")[0] in (*_NUMBERS, *_TEXTS, *_KEY_VALUES, "tags"):
        return ApiError(
            UNIMPLEMENTED, f"the ModelDB V2 stand-in does not imitate this use of {key}"
        )
    return ApiError(INTERNAL, "Internal server error", f"{call}.Response")


def _order(sort_key: str, call: str) -> Callable[[Row], Any]:
    if sort_key in _NUMBERS:
        return lambda row: int(row.get(sort_key, 0))
    if sort_key in _TEXTS:
        return lambda row: row.get(sort_key, "")
    raise _refused(sort_key, call)


def _predicate(predicate: Mapping[str, Any], call: str) -> Callable[[Row], bool]:
    key, wanted = predicate.get("key", ""), predicate.get("value")
    section, _, rest = key.partition(".")
    within = rest.rpartition(".")[2]
    match predicate.get("operator", "EQ"), wanted:
        case "EQ", str() if key in _TEXTS:
            return lambda row: bool(row.get(key, "") == wanted)
        case "EQ", str() if key == "tags":
            return lambda row: wanted in row.get("tags", ())
        case "EQ", str() if section in _KEY_VALUES and within:
            return lambda row: wanted in _values(row, section, within)
        case "GT", int() | float() if section in _KEY_VALUES and within:
            return lambda row: any(value > wanted for value in _values(row, section, within))
    raise _refused(key, call)


def _values(row: Row, section: str, key: str) -> list[Any]:
    return [item.get("value") for item in row.get(section, ()) if item.get("key") == key]
