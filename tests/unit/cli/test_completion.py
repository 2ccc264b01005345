"""The completion scripts, in the shells that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from daemon.cli import main
from daemon.cli.common import PROGRAM

if TYPE_CHECKING:
    from pathlib import Path


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(shell_script: str, words: list[str], home: Path) -> set[str]:
    """What bash offers for the last of the words."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    (home / "completion").write_text(shell_script)
    (home / "config.yaml").touch()
    line = " ".join([PROGRAM, *words])
    ask = f"""
source ./completion
COMP_WORDS=({line}{" ''" if words[-1] == "" else ""})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}
function=$(complete -p {PROGRAM} | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function {PROGRAM} "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [bash, "--norc", "-c", ask], cwd=home, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_bash_completes_verbs_options_values_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bash = script("bash", capsys)
    assert {"run", "check", "history"} <= completed(bash, [""], tmp_path)
    assert completed(bash, ["hist"], tmp_path) == {"history"}
    assert "--outcome" in completed(bash, ["history", "--o"], tmp_path)
    assert "rejected" in completed(bash, ["history", "--outcome", "rej"], tmp_path)
    assert completed(bash, ["check", "--config", "conf"], tmp_path) == {"config.yaml"}


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_other_shells_get_a_script_of_theirs(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = script(shell, capsys)
    assert PROGRAM in text
    assert "history" in text
    if shutil.which(shell) is not None:
        file = tmp_path / "script"
        file.write_text(text)
        subprocess.run([shell, "-n", file], check=True, timeout=30)
