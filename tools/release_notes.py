"""Prints a release's section of CHANGELOG.md; refuses a tag that does not match: ``python -m
tools.release_notes v1.2.3``.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from daemon import __version__

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
_SECTION = re.compile(
    r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE
)


class NotReleasableError(Exception):
    """The tag, the version and the changelog do not match."""


def sections(changelog: str) -> dict[str, tuple[str | None, str]]:
    """The changelog's sections, newest first: version (or ``Unreleased``) to its date, if it has
    one, and its text.
    """
    heads = list(_SECTION.finditer(changelog))
    ends = [head.start() for head in heads[1:]] + [len(changelog)]
    return {
        head["version"]: (head["date"], changelog[head.end() : end].strip())
        for head, end in zip(heads, ends, strict=True)
    }


def notes(tag: str, version: str, changelog: str) -> str:
    """The text of the release.

    Args:
        tag: what is released, ``v`` and the version.
        version: the program's.
        changelog: of CHANGELOG.md.

    Raises:
        NotReleasableError: the tag names another version, or the changelog has no dated section of
            it, or an empty one.
    """
    if tag != f"v{version}":
        raise NotReleasableError(f"the tag is {tag}, but daemon/__init__.py says {version}")
    date, text = sections(changelog).get(version, (None, ""))
    if not date or not text:
        raise NotReleasableError(
            f"CHANGELOG.md needs a section `## [{version}] - YYYY-MM-DD` that says what is new"
        )
    return text


def main(arguments: list[str] | None = None) -> int:
    """Prints the notes. Returns 1, with the reason on stderr, if that tag must not be released."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    tag: str = parser.parse_args(arguments).tag
    try:
        text = notes(tag, __version__, CHANGELOG.read_text(encoding="utf-8"))
    except NotReleasableError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
