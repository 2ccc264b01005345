"""A strategy: a document with parts removed, repeated or replaced."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st


@st.composite
def changed(draw: st.DrawFn, document: Any, odd: st.SearchStrategy[Any], most: int = 4) -> Any:
    """A copy of a document with a limited number of changes at any depth; parts are replaced by odd
    values.
    """
    holder = {"document": copy.deepcopy(document)}
    for _ in range(draw(st.integers(0, most))):
        _change_one(draw, holder, odd)
    return holder["document"]


def _change_one(draw: st.DrawFn, holder: Any, odd: st.SearchStrategy[Any]) -> None:
    parent: Any = holder
    key: Any = "document"
    while (
        isinstance(child := parent[key], dict | list)
        and child
        and (parent is holder or draw(st.booleans()))
    ):
        parent, key = (
            child,
            draw(st.sampled_from(list(child) if isinstance(child, dict) else range(len(child)))),
        )
    match draw(st.sampled_from(("replace", "remove", "double"))):
        case "replace":
            parent[key] = draw(odd)
        case "remove" if parent is not holder:
            del parent[key]
        case "double" if isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        case _ if isinstance(parent, dict) and parent is not holder:
            parent[draw(st.text(max_size=8))] = draw(odd)
        case _:
            pass
