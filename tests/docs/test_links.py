"""Relative links and anchors of every document lead somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "benchmarks/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
)


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", text)


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the headings of a document."""
    found: list[str] = []
    for heading in re.findall(r"(?m)^#+ (.+)$", without_code(document.read_text(encoding="utf-8"))):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w -]", "", words).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return frozenset(found)


def broken_links(document: Path, text: str) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(<?([^)\s>]+)>?\)", without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        path = (document.parent / file).resolve() if file else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(f"{document.relative_to(ROOT)}: {link}")
    return broken


def test_no_link_is_broken() -> None:
    assert len(DOCUMENTS) > 15
    assert [
        link
        for document in DOCUMENTS
        for link in broken_links(document, document.read_text(encoding="utf-8"))
    ] == []


def test_a_broken_link_is_found() -> None:
    good = "[a](docs/runbook.md#on-ecs) [b](#see-it-work) [c](https://example.com/none)"
    bad = "[a](docs/nothing.md) [b](docs/runbook.md#nothing) ![c](nothing.png)"
    assert broken_links(ROOT / "README.md", good) == []
    assert len(broken_links(ROOT / "README.md", bad)) == 3


def test_the_readme_leads_to_every_document() -> None:
    """Either itself, or a document that it links to."""
    linked, todo = set(), [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        if document in linked or document.suffix != ".md":
            continue
        linked.add(document)
        text = document.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        todo += [(document.parent / link).resolve() for link in links if ":" not in link]
    documents = {path for path in DOCUMENTS if "tests" not in path.relative_to(ROOT).parts}
    assert documents - linked - {ROOT / "benchmarks/README.md"} == set()
