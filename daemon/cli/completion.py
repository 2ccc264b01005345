"""``completion``: the shell's completion of verbs, options and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.common import PROGRAM, add_verb

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "completion",
        summary="print the completion script of a shell",
        description="Prints a script that lets a shell complete the verbs, their options, the "
        "values of options and the names of files with the Tab key.",
        examples=[
            (
                f"completion bash > ~/.local/share/bash-completion/completions/{PROGRAM}",
                "installs it for bash, from the next shell on",
            ),
            (
                f"completion zsh > ~/.zfunc/_{PROGRAM}",
                "installs it for zsh, where ~/.zfunc is in fpath before compinit",
            ),
            (
                f"completion fish > ~/.config/fish/completions/{PROGRAM}.fish",
                "installs it for fish",
            ),
        ],
    )
    parser.add_argument("shell", choices=_SHELLS, help="for which shell")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    import shtab  # noqa: PLC0415 - only this verb needs it

    from daemon.cli import program_parser  # noqa: PLC0415 - it imports this module

    parser = program_parser()
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # read by shtab
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to look at a parser
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for below in action.choices.values():
                yield from _actions(below)
