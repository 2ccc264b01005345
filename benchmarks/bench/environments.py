"""An environment for each participant, from a lock with hashes, kept until the lock changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
_TOLD = ("aiobotocore", "aiohttp", "boto3", "modeldb", "thrift", "taskiq", "taskiq-aio-sqs")


def home() -> Path:
    """Where environments are kept: BENCH_HOME, or `.bench` in the tree."""
    return Path(os.environ.get("BENCH_HOME", ROOT / ".bench"))


@dataclass(frozen=True)
class PythonEnvironment:
    """A virtual environment of this Python.

    Args:
        name: of its folder.
        lock: what is installed, with hashes.
    """

    name: str
    lock: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return home() / self.name / "bin" / "python"

    async def make(self) -> None:
        """Installs what the lock says, if that has not been done yet.

        Raises:
            RuntimeError: it could not be installed.
        """
        mark = home() / self.name / "made-of"
        made_of = f"{sys.version}\n{_digest(self.lock)}"
        if mark.is_file() and mark.read_text() == made_of:
            return
        shutil.rmtree(mark.parent, ignore_errors=True)
        await run(sys.executable, "-m", "venv", str(mark.parent))
        pip = (str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
        await run(*pip, "--no-deps", "--require-hashes", "-r", str(self.lock))
        mark.write_text(made_of)

    async def versions(self) -> str:
        """What is installed, as the results name it: Python, and the packages that matter."""
        listed = json.loads(
            await run(
                str(self.python),
                "-m",
                "pip",
                "list",
                "--format=json",
                "--disable-pip-version-check",
            )
        )
        known = {each["name"].lower(): each["version"] for each in listed}
        told = [f"{name} {known[name]}" for name in _TOLD if name in known]
        return ", ".join([f"Python {sys.version.split()[0]}", *told])


@dataclass(frozen=True)
class NodeEnvironment:
    """A `node_modules` from a package-lock.json.

    Args:
        name: of its folder.
        source: the folder with package.json and package-lock.json.
    """

    name: str
    source: Path

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return home() / self.name

    async def make(self) -> None:
        """Installs what the lock says, if that has not been done yet.

        Raises:
            RuntimeError: it could not be installed, or there is no npm.
        """
        mark = self.folder / "made-of"
        made_of = _digest(self.source / "package-lock.json")
        if not (mark.is_file() and mark.read_text() == made_of):
            if shutil.which("npm") is None:
                raise RuntimeError("npm is not on PATH")
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.source, self.folder)
            await run("npm", "ci", "--no-audit", "--no-fund", "--silent", cwd=self.folder)
            mark.write_text(made_of)
        for script in self.source.glob("*.mjs"):
            shutil.copy(script, self.folder)

    async def versions(self) -> str:
        """What is installed, as the results name it: Node, and what package.json asks for."""
        node = (await run("node", "--version")).strip().removeprefix("v")
        wanted = json.loads((self.source / "package.json").read_text())["dependencies"]
        return ", ".join([f"Node {node}", *(f"{name} {wanted[name]}" for name in wanted)])


Environment = PythonEnvironment | NodeEnvironment


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


async def run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        RuntimeError: it failed; says its errors.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {errors.decode()[-2000:]}")
    return output.decode()
