"""The filters of MLflow's searches: comparisons joined by AND, nothing else.

A quoted value ends at the next quote of its kind that is neither doubled nor behind a backslash,
and neither is undone: `'it''s'` looks for a text with two quotes in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.demo.mlflow.replies import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TAG_KINDS = {"tag", "tags"}
_PARAM_KINDS = {"param", "params", "parameter", "parameters"}
_METRIC_KINDS = {"metric", "metrics"}
_ATTRIBUTE_KINDS = {"attribute", "attributes", "attr", "run"}
_KINDS = "['metric', 'parameter', 'tag', 'attribute', 'dataset']"

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:''|\\'|[^'])*')
      | (?P<list>\([^)]*\))
      | (?P<compare>IS\s+NOT\s+NULL\b|IS\s+NULL\b|NOT\s+IN\b|IN\b|LIKE\b|ILIKE\b|!=|<=|>=|=|<|>)
      | (?P<and>AND\b)
      | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
      | (?P<name>(?:\w+\.)?(?:`[^`]*`|"(?:""|\\"|[^"])*"|\w[\w.]*))
      | (?P<other>\S+)
    )""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """A comparison.

    Attributes:
        kind: tag, parameter, metric or attribute.
        comparator: in upper case.
        values: one, or those of a list; none for IS NULL.
    """

    kind: str
    key: str
    comparator: str
    values: tuple[str, ...]

    def matches(self, value: str | float | None) -> bool:
        if self.comparator == "IS NULL":
            return value is None
        if value is None:
            return False
        if self.comparator == "IS NOT NULL":
            return True
        if isinstance(value, str):
            return _compare_texts(self.comparator, value, self.values)
        return _compare_numbers(self.comparator, value, float(self.values[0]))


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a search knows.

    Attributes:
        attributes: the names that need no prefix.
        numeric: those that are compared with numbers.
        knows_null: IS NULL (3.x, for tags and params of runs).
        quotes_clauses: how an error prints what it cannot read.
    """

    attributes: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    knows_null: bool = False
    quotes_clauses: bool = True


_TEXT_COMPARATORS = {"=", "!=", "LIKE", "ILIKE"}
_COMPARATORS = "{'!=', '=', 'ILIKE', 'LIKE'}"
_NULL_COMPARATORS = {"IS NULL", "IS NOT NULL"}


def parse_filter(text: str, grammar: Grammar) -> list[Clause]:
    """A filter as its comparisons; "" has none.

    Raises:
        ServerError: INVALID_PARAMETER_VALUE.
    """
    tokens = _tokens(text)
    comparisons, unread = [], []
    at = 0
    while at < len(tokens):
        kind, word = tokens[at]
        length = _comparison_length(tokens[at : at + 3], grammar)
        if length:
            comparisons.append(tokens[at : at + length])
        elif kind != "and":
            unread += re.sub(r"^(IS) ", r"\1\n", word, flags=re.IGNORECASE).split("\n")
        at += length or 1
    if unread:
        printed = [f"'{word}'" if grammar.quotes_clauses else word for word in unread]
        raise invalid(f"Invalid clause(s) in filter string: {', '.join(printed)}")
    return [_clause(comparison, grammar) for comparison in comparisons]


def _comparison_length(tokens: list[tuple[str, str]], grammar: Grammar) -> int:
    """How many tokens a comparison takes that begins here; 0: none does."""
    kinds = [kind for kind, _ in tokens]
    if kinds[:2] != ["name", "compare"]:
        return 0
    if tokens[1][1] in _NULL_COMPARATORS:
        return 2 if grammar.knows_null else 0
    return 3 if kinds[2:] and kinds[2] in {"string", "list", "number", "name"} else 0


def _clause(tokens: list[tuple[str, str]], grammar: Grammar) -> Clause:
    comparator = tokens[1][1]
    kind, key = _identifier(tokens[0][1], grammar.attributes)
    if comparator in _NULL_COMPARATORS:
        if kind not in {"tag", "parameter"}:
            raise invalid(
                "IS NULL / IS NOT NULL is only supported for tags and params, not for "
                f"'{kind}' '{key}'"
            )
        return Clause(kind, key, comparator, ())
    number = kind == "metric" or (kind == "attribute" and key in grammar.numeric)
    values = _values(*tokens[2], kind, key, number=number)
    if kind in {"tag", "parameter"} and comparator not in _TEXT_COMPARATORS:
        raise invalid(f"Invalid comparator '{comparator}' not one of '{_COMPARATORS}'")
    return Clause(kind, key, comparator, values)


def _tokens(text: str) -> list[tuple[str, str]]:
    found = []
    for match in _TOKEN.finditer(text.rstrip()):
        kind = match.lastgroup or "other"
        word = match[kind]
        if kind == "name" and word.upper() == "OR":
            kind = "other"
        if kind == "compare":
            word = re.sub(r"\s+", " ", word.upper())
        found.append((kind, word))
    return found


def _identifier(name: str, attributes: tuple[str, ...]) -> tuple[str, str]:
    prefix, dot, key = name.partition(".")
    if not dot or name[0] in '`"':
        prefix, key = "attribute", name
    if key[:1] in {"`", '"'} and len(key) > 1:
        key = key[1:-1]
    if prefix in _TAG_KINDS:
        return "tag", key
    if prefix in _PARAM_KINDS:
        return "parameter", key
    if prefix in _METRIC_KINDS:
        return "metric", key
    if prefix not in _ATTRIBUTE_KINDS:
        raise invalid(f"Invalid entity type '{prefix}'. Valid values are {_KINDS}")
    known = ", ".join(repr(each) for each in attributes)
    if key not in attributes:
        # The real server prints a set, in any order.
        raise invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{{{known}}}'")
    return "attribute", key


def _values(kind: str, word: str, of_kind: str, key: str, *, number: bool) -> tuple[str, ...]:
    if number:
        if kind != "number":
            raise invalid(f"Expected numeric value type for {of_kind}: {key}. Found {word}")
        return (word,)
    if kind == "list" and of_kind == "attribute":
        return tuple(item[1:-1] for item in re.findall(r"'[^']*'|\"[^\"]*\"", word))
    if kind == "string" or (kind == "name" and word[0] == '"'):
        return (word[1:-1],)
    if kind == "name":
        raise invalid(
            "Parameter value is either not quoted or unidentified quote types used for string "
            f"value {word}. Use either single or double quotes."
        )
    if of_kind == "attribute":
        raise invalid(f"Expected a quoted string value for attributes. Got value {word}")
    raise invalid(
        f"Expected a quoted string value for {of_kind} (e.g. 'my-value'). Got value {word}"
    )


def _compare_texts(comparator: str, value: str, wanted: tuple[str, ...]) -> bool:
    if comparator in {"IN", "NOT IN"}:
        return (value in wanted) == (comparator == "IN")
    if comparator in {"LIKE", "ILIKE"}:
        # SQLite's LIKE takes both cases, too; nothing of ours depends on it.
        pattern = re.escape(wanted[0]).replace("%", ".*").replace("_", ".")
        flags = re.DOTALL | (re.IGNORECASE if comparator == "ILIKE" else re.NOFLAG)
        return re.fullmatch(pattern, value, flags) is not None
    return (value == wanted[0]) == (comparator == "=")


_NUMBERS: Mapping[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


def _compare_numbers(comparator: str, value: float, wanted: float) -> bool:
    compare = _NUMBERS.get(comparator)
    if compare is None:
        raise invalid(f"Invalid comparator '{comparator}' not one of '{list(_NUMBERS)}'")
    return compare(value, wanted)
