"""The help of every verb, and of every verb's verb."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from daemon.cli import VERBS, main, program_parser
from daemon.cli.common import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers below one that do something by themselves."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for each in action.choices.values():
            yield from parsers(each)


BY_NAME = {each.prog.removeprefix(f"{PROGRAM} "): each for each in parsers(program_parser())}


def examples(parser: argparse.ArgumentParser) -> list[str]:
    _, _, shown = parser.format_help().partition("\nexamples:\n")
    return [line.strip() for line in shown.splitlines() if line.startswith(f"  {PROGRAM} ")]


def test_every_verb_is_looked_at() -> None:
    assert len({name.split()[0] for name in BY_NAME}) == len(VERBS) > 3


@pytest.mark.parametrize("name", BY_NAME)
def test_the_help_of_a_verb_ends_with_examples_that_work(name: str) -> None:
    found = examples(BY_NAME[name])
    assert found
    for example in found:
        command = re.split(r" [|>] ", example)[0]  # what takes the output is another program
        assert command.startswith(f"{PROGRAM} {name}"), command
        program_parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("name", BY_NAME)
def test_every_option_of_a_verb_is_explained(name: str) -> None:
    assert [action.dest for action in BY_NAME[name]._actions if not action.help] == []
    assert BY_NAME[name].description


def test_a_paragraph_is_wrapped_and_an_example_is_not() -> None:
    lines = BY_NAME["check"].format_help().splitlines()
    assert f"  {PROGRAM} check --offline --config config.yaml" in lines
    description = [line for line in lines if line.startswith("Validates the configuration")]
    assert description
    assert len(description[0]) < 100


@pytest.mark.parametrize("given", [["--help"], ["--help", "run"]])
def test_the_help_of_the_program_lists_every_verb(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(given)
    shown = capsys.readouterr().out
    assert re.findall(r"^    ([a-z-]+)(?: |$)", shown, re.MULTILINE) == list(VERBS)


def test_a_verb_is_started_without_the_code_of_the_others() -> None:
    code = (
        "import sys\n"
        "from daemon.cli import main\n"
        "try:\n    main(['run', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = done.stdout.splitlines()[-1].split()
    assert "daemon.cli.run" in modules
    unwanted = ("daemon.cli.backfill", "daemon.checkpoint.dynamodb", "daemon.demo", "shtab")
    assert [name for name in unwanted if name in modules] == []
