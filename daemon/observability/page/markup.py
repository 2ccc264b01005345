"""HTML elements: the one door through which text becomes markup.

Text is escaped unless it is `Html`, and only this module makes `Html`. Names of elements and of
attributes are constants of the program.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING, NewType

from daemon.text import cleaned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Html = NewType("Html", str)
"""Markup. A plain `str` is text."""

_VOID = frozenset({"br", "input", "link", "meta"})
_NOT_PLAIN = re.compile("[^ !#-%(-;=?-~]")
"""What may have to be escaped; most text has nothing of it."""
NOTHING = Html("")


class _Markup(str):
    """`Html` at run time: type checkers alone cannot keep text from being taken for markup."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str | float | bool | None) -> Html:
    """An element.

    Args:
        name: a constant.
        children: text, which is escaped, and markup.
        attributes: names with ``_`` for ``-``, and with one more ``_`` at the end where Python has
            that word itself. None and False: left out. True: without a value.
    """
    if name in _VOID:
        return Html(_Markup(_opening(name, attributes)))
    inner = "".join(map(_child, children))
    return Html(_Markup(f"{_opening(name, attributes)}{inner}</{name}>"))


def stream(
    name: str, *children: str | Iterable[Html], **attributes: str | float | bool | None
) -> Iterator[Html]:
    """An element as `element` makes it, piece by piece, so that who sends it can pause between.

    Args:
        name: a constant.
        children: text, markup, and pieces of markup.
        attributes: as in `element`.
    """
    yield Html(_Markup(_opening(name, attributes)))
    for child in children:
        if isinstance(child, str):
            yield Html(_Markup(_child(child)))
        else:
            yield from child
    yield Html(_Markup(f"</{name}>"))


def join(*children: str) -> Html:
    """Several children without an element around them."""
    return Html(_Markup("".join(map(_child, children))))


def document(language: str, *children: str | Iterable[Html]) -> Iterator[Html]:
    """A whole page, piece by piece."""
    yield Html(_Markup("<!doctype html>\n"))
    yield from stream("html", *children, lang=language)


def code_of_page(name: str, code: str) -> Html:
    """A style or a script of the program's own, which is not escaped.

    Args:
        name: ``style`` or ``script``.
        code: a constant; it must not contain its own end.
    """
    return Html(_Markup(f"<{name}>{code}</{name}>"))


def link(address: str | None, *words: str, **attributes: str | None) -> Html:
    """A link; only the words if the address is none that may be followed: ``javascript:`` and
    ``data:`` are code.
    """
    if address is None or not is_link(address):
        return join(*words)
    elsewhere = None if address.startswith(("/", "?", "#")) else "noopener noreferrer external"
    return element("a", *words, href=address, rel=elsewhere, **attributes)


def is_link(address: str) -> bool:
    """Whether an address is one of this server or a page of another."""
    if address.startswith("//"):
        return False
    return address.startswith(("/", "?", "#", "https://", "http://"))


def escaped(text: str) -> str:
    """Text for content and for quoted attributes. Control characters and lone surrogates, which
    HTML cannot hold, become U+FFFD.
    """
    return html.escape(cleaned(text)) if _NOT_PLAIN.search(text) else text


def _opening(name: str, attributes: Mapping[str, str | float | bool | None]) -> str:
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        if value is True:
            parts.append(f" {_attribute(key)}")
        else:
            parts.append(f' {_attribute(key)}="{escaped(str(value))}"')
    parts.append(">")
    return "".join(parts)


@cache
def _attribute(key: str) -> str:
    return key.removesuffix("_").replace("_", "-")


def _child(child: str) -> str:
    return child if isinstance(child, _Markup) else escaped(child)
