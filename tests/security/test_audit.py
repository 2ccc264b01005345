"""``make audit``: its output and exit status, with an advisory service on a socket and a scripted
pip-audit.
"""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tools import audit

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = """\
# as pip-compile writes it
alpha==1.0 \\
    --hash=sha256:00
    # via beta
beta-ray==2.1.post1 ; python_version < "3.12" \\
    --hash=sha256:11
"""
NOTHING_KNOWN = [
    {"name": "alpha", "version": "1.0", "vulns": []},
    {"name": "beta-ray", "version": "2.1.post1", "vulns": []},
]
KNOWS = {"vulnerabilities": [{"id": "PYSEC-2019-133"}]}


@contextmanager
def service(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/pypi/urllib3/1.24.1/json"
        finally:
            server.shutdown()
            thread.join()


class Stub:
    """A lock, a scripted pip-audit, and an advisory service that knows one advisory."""

    def __init__(self, home: Path) -> None:
        self.lock = home / "lock.txt"
        self.lock.write_text(LOCK)
        self._script = home / "pip_audit.py"
        self.arguments = home / "arguments.json"
        self.answer(NOTHING_KNOWN)

    def answer(self, dependencies: Any, status: int = 0, error: str = "") -> None:
        stdout = (
            json.dumps({"dependencies": dependencies, "fixes": []})
            if dependencies is not None
            else ""
        )
        self._script.write_text(
            "import json, sys, pathlib\n"
            f"pathlib.Path({str(self.arguments)!r}).write_text(json.dumps(sys.argv[1:]))\n"
            f"print({stdout!r})\nprint({error!r}, file=sys.stderr)\nsys.exit({status})\n"
        )

    def run(self, *options: str, service_url: str | None = None) -> int:
        arguments, command = [*options, str(self.lock)], [sys.executable, str(self._script)]
        if service_url is not None:
            return audit.main(arguments, pip_audit=command, service_url=service_url)
        with service(200, json.dumps(KNOWS).encode()) as url:
            return audit.main(arguments, pip_audit=command, service_url=url)


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    return Stub(tmp_path)


def test_nothing_known(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert stub.run() == 0
    assert (
        capsys.readouterr().out == "2 packages asked about, 0 known vulnerabilities, 0 accepted\n"
    )
    arguments = json.loads(stub.arguments.read_text())
    assert {"--require-hashes", "--strict", "--disable-pip", f"--requirement={stub.lock}"} <= set(
        arguments
    )


def test_a_known_vulnerability_fails(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    known = [
        {"id": "PYSEC-2026-7", "fix_versions": ["2.2", "3.0"]},
        {"id": "GHSA-x", "fix_versions": []},
    ]
    stub.answer(
        [NOTHING_KNOWN[0], {**NOTHING_KNOWN[1], "vulns": known}],
        status=1,
        error="Found 2 known vulnerabilities in 1 package",
    )
    assert stub.run() == 1
    assert capsys.readouterr().out.splitlines() == [
        "beta-ray 2.1.post1: PYSEC-2026-7, fixed in 2.2, 3.0",
        "beta-ray 2.1.post1: GHSA-x, not fixed yet",
        "2 packages asked about, 2 known vulnerabilities, 0 accepted",
    ]


def test_an_accepted_advisory_is_left_to_pip_audit(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "ACCEPTED", {"PYSEC-2026-7": "only in a function that nobody calls"})
    assert stub.run() == 0
    assert "--ignore-vuln=PYSEC-2026-7" in json.loads(stub.arguments.read_text())
    assert capsys.readouterr().out.endswith("1 accepted\n")


class TestNobodyToAsk:
    @pytest.mark.parametrize(("options", "status"), [((), 0), (("--must-ask",), 2)])
    def test_without_a_network(
        self, stub: Stub, options: tuple[str, ...], status: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with service(200, b"") as gone:
            pass
        assert stub.run(*options, service_url=gone) == status
        assert capsys.readouterr().out.startswith(
            f"not asked: no advisory service reachable ({gone}: "
        )
        assert not stub.arguments.exists()

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (404, b""),
            (503, b"{}"),
            (200, b"<html>Please log in</html>"),
            (200, b"[]"),
            # a mirror without advisories would call everything safe
            (200, b'{"vulnerabilities": []}'),
        ],
    )
    def test_what_answers_is_no_advisory_service(
        self, stub: Stub, status: int, body: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with service(status, body) as url:
            assert stub.run(service_url=url) == 0
        assert capsys.readouterr().out.startswith("not asked: no advisory service reachable")
        assert not stub.arguments.exists()


@pytest.mark.parametrize(
    ("dependencies", "status", "error", "said"),
    [
        (
            None,
            1,
            "requests.exceptions.ConnectionError: reset",
            "exit status 1): requests.exceptions.ConnectionError: reset",
        ),
        ([{"name": "alpha", "skip_reason": "not found"}], 0, "", "no answer"),
        # what is left out must not pass
        (NOTHING_KNOWN[:1], 0, "", "does not answer for beta-ray"),
        ([], 0, "", "does not answer for alpha, beta-ray"),
        (NOTHING_KNOWN, 1, "something else", "ends with 1: something else"),
    ],
)
def test_no_answer_is_neither_good_nor_bad(
    stub: Stub,
    dependencies: Any,
    status: int,
    error: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub.answer(dependencies, status, error)
    assert stub.run() == 2
    assert said in capsys.readouterr().err


class TestInstallation:
    """Without making environments, which takes seconds each."""

    @pytest.fixture
    def ran(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        commands: list[str] = []

        def run(command: list[str], *, check: bool) -> None:
            assert check
            (tmp_path / "home").mkdir(exist_ok=True)
            commands.append(" ".join(command))
            if "broken" in (tmp_path / "audit.txt").read_text() and "install" in command:
                raise subprocess.CalledProcessError(1, command)

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(audit, "TOOL_LOCK", tmp_path / "audit.txt")
        (tmp_path / "audit.txt").write_text("# a lock\n")
        return commands

    def test_it_is_made_once_for_each_lock(self, tmp_path: Path, ran: list[str]) -> None:
        command = audit.installed_pip_audit(tmp_path / "home")
        assert command == (str(tmp_path / "home" / "bin" / "python"), "-m", "pip_audit")
        assert [" -m venv --clear " in each for each in ran] == [True, False]
        assert "install --no-deps --require-hashes -r" in ran[1]
        assert audit.installed_pip_audit(tmp_path / "home") == command
        assert len(ran) == 2
        (tmp_path / "audit.txt").write_text("# another lock\n")
        audit.installed_pip_audit(tmp_path / "home")
        assert len(ran) == 4

    def test_what_cannot_be_installed_is_tried_again(self, tmp_path: Path, ran: list[str]) -> None:
        (tmp_path / "audit.txt").write_text("# a broken lock\n")
        for _ in range(2):
            with pytest.raises(audit.AuditError, match="pip-audit cannot be installed"):
                audit.installed_pip_audit(tmp_path / "home")
        assert len(ran) == 4


def test_the_locks_are_read_whole() -> None:
    assert audit.locked(audit.LOCK)["aiohttp"]
    assert len(audit.locked(audit.LOCK)) == len(
        re.findall(r"^\S+==", audit.LOCK.read_text(), re.MULTILINE)
    )


def test_pip_audit_is_in_no_lock_but_its_own() -> None:
    own, folder = audit.TOOL_LOCK, audit.TOOL_LOCK.parent
    assert "pip-audit" in audit.locked(own)
    assert own.read_text().count("--hash=sha256:") >= len(audit.locked(own))
    assert [lock.name for lock in folder.glob("*.txt") if "pip-audit" in audit.locked(lock)] == [
        own.name
    ]


def test_it_is_run_for_every_change_of_a_lock_and_every_week() -> None:
    root = Path(__file__).parent.parent.parent
    workflow = (root / ".github" / "workflows" / "scan.yml").read_text()
    assert "schedule:" in workflow
    assert workflow.count("- requirements/*") == 2
    assert 'make audit PYTHON=python ARGS="--must-ask' in workflow
    assert re.search(
        r"^audit:.*\n\t\$\(PYTHON\) -m tools\.audit ", (root / "Makefile").read_text(), re.MULTILINE
    )
    assert re.search(r"^ *(step )?make audit ", (root / ".ci" / "run").read_text(), re.MULTILINE)
