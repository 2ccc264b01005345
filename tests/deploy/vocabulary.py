"""The metrics, labels and label values in a PromQL expression, and those among them that the daemon
does not export.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.deploy.exported import OF_PROMETHEUS, OF_THE_SCRAPE, exported_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)\s*\{(?P<matchers>[^}]*)\}")
_MATCHER = re.compile(r'(?P<label>\w+)\s*(?P<operator>=~|!~|!=|=)\s*"(?P<value>[^"]*)"')
_LABEL_LIST = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\((?P<labels>[^)]*)\)"
)
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w.])[a-zA-Z_:][\w:]*\b(?!\s*\()")
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset"})


@dataclass(frozen=True, slots=True)
class Expression:
    """What a PromQL expression names."""

    text: str

    @property
    def metrics(self) -> set[str]:
        bare = _STRING.sub('""', self.text)
        bare = _RANGE.sub("", _LABEL_LIST.sub("", bare))
        return set(_NAME.findall(re.sub(r"\{[^}]*\}", "", bare))) - _KEYWORDS

    @property
    def labels(self) -> set[str]:
        """Labels that series are matched or grouped by."""
        lists = (found["labels"].split(",") for found in _LABEL_LIST.finditer(self.text))
        return {label.strip() for labels in lists for label in labels} - {""}

    def matchers(self) -> Iterator[tuple[str, str, str]]:
        """Metric, label and value of each matcher; a regular expression of alternatives gives one
        value each.
        """
        for selector in _SELECTOR.finditer(self.text):
            for found in _MATCHER.finditer(selector["matchers"]):
                values = found["value"].split("|") if "~" in found["operator"] else [found["value"]]
                for value in values:
                    yield selector["name"], found["label"], value


def unknown_words(expression: Expression) -> list[str]:
    """Metrics, labels and label values of an expression that no scrape of the daemon has."""
    exported = exported_samples()
    unknown = [f"metric {name}" for name in expression.metrics - set(exported) - OF_PROMETHEUS]
    labels = {label for labels in exported.values() for label in labels} | OF_THE_SCRAPE
    unknown += [f"label {label}" for label in expression.labels - labels]
    for metric, label, value in expression.matchers():
        if (
            metric in exported
            and label not in OF_THE_SCRAPE
            and value not in exported[metric].get(label, ())
        ):
            unknown.append(f"{metric}{{{label}={value!r}}}")
    return unknown
