"""The one door through which text becomes markup."""

from __future__ import annotations

import ast
import html
from html.parser import HTMLParser
from pathlib import Path

import pytest

from daemon.observability.page import markup
from daemon.observability.page.markup import element, is_link, join, link, stream
from daemon.text import cleaned
from tests.security.hostile import TEXTS

PACKAGE = Path(markup.__file__).parent
DOOR = "markup.py"
SHORT = {kind: text for kind, text in TEXTS.items() if len(text) < 10_000}


class Read(HTMLParser):
    """What a browser would make of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", SHORT)
def test_hostile_text_stays_text(kind: str) -> None:
    text = SHORT[kind]
    read = Read(element("p", text, title=text))
    assert read.tags == ["p"]
    assert read.attributes == [("title", cleaned(text))]
    assert read.text == cleaned(text)
    element("p", text).encode("utf-8")


def test_markup_is_not_escaped_twice_and_its_sum_with_text_is_text() -> None:
    inner = element("b", "1 < 2")
    assert join(inner, "&") == "<b>1 &lt; 2</b>&amp;"
    # adding and formatting make plain text of it, which is escaped
    assert element("p", inner + "<i>") == "<p>&lt;b&gt;1 &amp;lt; 2&lt;/b&gt;&lt;i&gt;</p>"
    assert element("p", f"{inner}") == "<p>&lt;b&gt;1 &amp;lt; 2&lt;/b&gt;</p>"


def test_pieces_are_the_element() -> None:
    inner = (element("li", each) for each in "<&")
    assert "".join(stream("ol", "<", inner, element("b"), class_="x")) == (
        '<ol class="x">&lt;<li>&lt;</li><li>&amp;</li><b></b></ol>'
    )


def test_whatever_may_be_escaped_is_looked_at() -> None:
    """`escaped` has a quick way for plain text."""
    for character in map(chr, range(0x2100)):
        assert markup.escaped(character) == html.escape(cleaned(character))


def test_attributes() -> None:
    made = element("input", class_="a b", data_live=True, hidden=False, name_="x", value=None)
    assert made == '<input class="a b" data-live name="x">'


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "\tjavascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "//evil.example/",
        "vbscript:x",
        "file:///etc/passwd",
        "",
    ],
)
def test_an_address_that_is_code_or_of_another_kind_is_no_link(address: str) -> None:
    assert not is_link(address)
    assert link(address, "words") == "words"


def test_a_link_elsewhere_tells_nothing_of_this_page() -> None:
    assert link("https://x.example/?a=1&b=2", "x") == (
        '<a href="https://x.example/?a=1&amp;b=2" rel="noopener noreferrer external">x</a>'
    )
    assert link("/jobs/x", "x") == '<a href="/jobs/x">x</a>'


def makes_markup(source: str) -> list[str]:
    """What a module does that only the door may do."""
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "<" in node.value:
            found.append(f"line {node.lineno}: a tag in a string")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in {"Html", "_Markup", "cast"}:
                found.append(f"line {node.lineno}: {name}")
            if name in {"element", "stream", "code_of_page"} and not (
                node.args and isinstance(node.args[0], ast.Constant)
            ):
                found.append(f"line {node.lineno}: the name of an element is no constant")
            if name in {"element", "stream"} and any(
                keyword.arg is None for keyword in node.keywords
            ):
                found.append(f"line {node.lineno}: names of attributes are no constants")
    return found


def test_no_other_module_makes_markup() -> None:
    others = [path for path in sorted(PACKAGE.glob("*.py")) if path.name != DOOR]
    assert len(others) > 5
    for path in others:
        source = path.read_text(encoding="utf-8")
        found = makes_markup(source)
        if path.name == "frame.py":  # which may put the two files of the package into the page
            assert source.count("code_of_page(") == 2
        else:
            assert "code_of_page" not in source
        if path.name == "job_page.py":  # the first record's heading is the page's
            found = [each for each in found if "no constant" not in each]
        assert found == [], path.name


@pytest.mark.parametrize(
    "source",
    [
        "x = f'<p>{name}</p>'",
        "x = '<p>' + name",
        "x = Html(name)",
        "x = markup._Markup(name)",
        "x = cast(Html, name)",
        "x = element(name, 'a')",
        "x = element('p', **names)",
        "x = stream(name, 'a')",
    ],
)
def test_markup_made_elsewhere_is_found(source: str) -> None:
    assert makes_markup(source)


@pytest.mark.parametrize("name", ["style.css", "page.js"])
def test_style_and_script_do_not_end_early(name: str) -> None:
    assert "</" not in (PACKAGE / name).read_text(encoding="utf-8")
