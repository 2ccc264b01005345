"""A daemon whose AWS credentials come from any of their sources, and what breaks each of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import stat
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession
from botocore.credentials import SSOProvider

from daemon.app import Daemon
from daemon.reasons import Edge
from daemon.wiring import ConfiguredParts
from tests.support.credential_world import SECRET, TOKEN, CredentialWorld
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest

    from daemon.config.settings import Settings

ROLE = "arn:aws:iam::123456789012:role/daemon"


class _WorkingTarget:
    async def probe(self) -> None:
        """It works."""

    async def aclose(self) -> None:
        """Nothing is open."""


class _Parts(ConfiguredParts):
    """The configured adapters, with a target that works."""

    def target(self, *_given: object) -> Any:
        return _WorkingTarget()


@dataclass
class Scene:
    """A daemon, the services around it, and what it has logged."""

    world: CredentialWorld
    home: Path
    environment: pytest.MonkeyPatch
    log: io.StringIO
    daemon: Daemon | None = None
    running: asyncio.Task[None] | None = None

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.home / name
        self.remove(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def remove(self, name: str) -> None:
        path = self.home / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)

    def make_directory(self, name: str) -> None:
        """In place of a file; root can read any file, but no directory as one."""
        self.remove(name)
        (self.home / name).mkdir(parents=True)

    def profile(self, **members: str) -> None:
        lines = "\n".join(f"{name} = {value}" for name, value in members.items())
        self.write("config", f"[profile job]\n{lines}\n")
        self.environment.setenv("AWS_CONFIG_FILE", str(self.home / "config"))
        self.environment.setenv("AWS_PROFILE", "job")

    def settings(self) -> Settings:
        return settings(
            self.home / "checkpoint.db",
            aws={
                "region": "eu-west-1",
                "account_id": "123456789012",
                "sqs_endpoint_url": self.world.url,
                "sagemaker_endpoint_url": self.world.url,
                "sts_endpoint_url": self.world.url,
            },
            queue={"url": f"{self.world.url}/123456789012/jobs", "wait_seconds": 1},
            http={"host": "127.0.0.1", "port": 0},
        )

    def probes(self) -> int:
        """How often the queue's breaker has probed in vain."""
        assert self.daemon is not None
        return self.daemon._breakers[Edge.QUEUE]._failures

    def start(self) -> None:
        made = self.settings()
        self.daemon = Daemon(made, _Parts(made))
        self.running = asyncio.create_task(self.daemon.run())

    async def faulty(self) -> str:
        """Waits until the queue's fault is about a source; returns what /readyz says of it."""
        return await self._until(
            lambda words: "AWS" in words and "refuses the AWS credentials" not in words
        )

    async def works(self) -> None:
        """Waits until the queue works again, and is received from."""
        assert self.daemon is not None
        await self._until(lambda words: words == "ok", both=True)
        before = self.world.calls.get("ReceiveMessage", 0)
        async with asyncio.timeout(10):
            while self.world.calls.get("ReceiveMessage", 0) <= before:
                self._must_live()
                await asyncio.sleep(0.005)

    async def _until(self, wanted: Callable[[str], bool], *, both: bool = False) -> str:
        assert self.daemon is not None
        async with asyncio.timeout(15):
            while True:
                checks = self.daemon._readyz().checks
                asked = ("queue", "sagemaker") if both else ("queue",)
                words = [checks.get(edge, "") for edge in asked]
                if all(wanted(each) for each in words):
                    return words[0]
                self._must_live()
                await asyncio.sleep(0.005)

    def _must_live(self) -> None:
        assert self.running is not None
        assert not self.running.done(), f"it ended: {self.log.getvalue()}"

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        assert self.daemon is not None
        url = f"http://127.0.0.1:{self.daemon.http_port}{path}"
        async with ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.json()

    async def end(self) -> None:
        assert self.daemon is not None
        assert self.running is not None
        self.daemon.stop()
        async with asyncio.timeout(20):
            await asyncio.gather(self.running, return_exceptions=True)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().split("\n") if line]


@asynccontextmanager
async def credential_scene(
    home: Path, environment: pytest.MonkeyPatch, log: io.StringIO
) -> AsyncIterator[Scene]:
    async with CredentialWorld() as world:
        environment.setenv("AWS_ENDPOINT_URL_STS", world.url)
        environment.setenv("AWS_ENDPOINT_URL_SSO", world.url)
        made = Scene(world, home, environment, log)
        try:
            yield made
        finally:
            if made.running is not None:
                await made.end()


# --- the kinds of credentials: how each is set up, again after it was broken ----------------------


def _environment(scene: Scene) -> None:
    new = scene.world.issue()
    scene.environment.setenv("AWS_ACCESS_KEY_ID", new["AccessKeyId"])
    scene.environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    scene.environment.delenv("AWS_CREDENTIAL_EXPIRATION", raising=False)


def _file(scene: Scene) -> None:
    key = scene.world.issue()["AccessKeyId"]
    path = scene.write(
        "credentials", f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"
    )
    scene.environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))


def _process(scene: Scene) -> None:
    # asks the world, so that it breaks with it
    path = scene.write(
        "program",
        f"#!{sys.executable} -S\n"
        "import json, datetime\n"
        "until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': 'ASIAPROGRAM' + str(until.microsecond),\n"
        f"    'SecretAccessKey': '{SECRET}', 'SessionToken': '{SECRET}',\n"
        "    'Expiration': until.isoformat()}))\n",
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    scene.profile(credential_process=f"{path} --password {SECRET}")


def _container(scene: Scene) -> None:
    path = scene.write("token", TOKEN)
    scene.environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(path))
    scene.environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{scene.world.url}/creds")
    scene.world.break_down("ok")


def _web_identity(scene: Scene) -> None:
    path = scene.write("token", TOKEN)
    scene.environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(path))
    scene.environment.setenv("AWS_ROLE_ARN", ROLE)
    scene.environment.setenv("AWS_ROLE_SESSION_NAME", "daemon")
    scene.world.break_down("ok")


def _instance(scene: Scene) -> None:
    scene.environment.setenv("AWS_EC2_METADATA_DISABLED", "false")
    scene.environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", scene.world.url)
    scene.world.break_down("ok")


def _sso(scene: Scene) -> None:
    url = "https://example.awsapps.com/start"
    cached = f"sso/{hashlib.sha1(url.encode()).hexdigest()}.json"
    until = datetime.now(UTC) + timedelta(hours=1)
    scene.write(
        cached, json.dumps({"accessToken": SECRET, "expiresAt": until.isoformat(), "startUrl": url})
    )
    scene.environment.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(scene.home / "sso"))
    scene.profile(
        sso_start_url=url,
        sso_region="eu-west-1",
        sso_account_id="123456789012",
        sso_role_name="daemon",
    )
    scene.world.break_down("ok")


def _role(scene: Scene) -> None:
    """A role of a profile, whose own credentials are in the credentials file."""
    key = scene.world.issue()["AccessKeyId"]
    path = scene.write(
        "credentials", f"[base]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"
    )
    scene.environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    scene.profile(role_arn=ROLE, source_profile="base")
    scene.world.break_down("ok")


def _role_of_a_program(scene: Scene) -> None:
    """A role of a profile, whose own credentials come from a program."""
    _process(scene)
    program = scene.home / "program"
    scene.write(
        "config",
        f"[profile job]\nrole_arn = {ROLE}\nsource_profile = base\n"
        f"[profile base]\ncredential_process = {program} --password {SECRET}\n",
    )
    scene.world.break_down("ok")


KINDS: dict[str, Callable[[Scene], None]] = {
    "environment": _environment,
    "file": _file,
    "process": _process,
    "container": _container,
    "web-identity": _web_identity,
    "instance": _instance,
    "sso": _sso,
    "role": _role,
    "role of a program": _role_of_a_program,
}


# --- what breaks ----------------------------------------------------------------------------------


def _without_variables(scene: Scene) -> None:
    scene.environment.delenv("AWS_ACCESS_KEY_ID")


def _file_is(name: str, content: str | bytes | None) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        if content is None:
            scene.remove(name)
        else:
            mode = (scene.home / name).stat().st_mode if (scene.home / name).exists() else 0o600
            scene.write(name, content).chmod(mode)

    return act


def _named(path: str) -> Callable[[Scene], None]:
    return lambda scene: scene.environment.setenv("AWS_SHARED_CREDENTIALS_FILE", path)


def _directory(name: str) -> Callable[[Scene], None]:
    return lambda scene: scene.make_directory(name)


def _world(mode: str, answers: int | None = None) -> Callable[[Scene], None]:
    return lambda scene: scene.world.break_down(mode, answers)


def _program(script: str) -> Callable[[Scene], None]:
    return _file_is("program", f"#!/bin/sh\n{script}\n")


def _cache_is(content: str | bytes | None) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        (cached,) = (scene.home / "sso").iterdir()
        _file_is(f"sso/{cached.name}", content)(scene)

    return act


def _cache_directory(scene: Scene) -> None:
    (cached,) = (scene.home / "sso").iterdir()
    scene.make_directory(f"sso/{cached.name}")


_HALF = "[default]\naws_access_key_id = ASIAHALF\n"
GARBAGE = f"{SECRET} = [[[\n\0".encode() + b"\xff\xfe"
_OF_AN_ENDPOINT = {
    "absent": _world("drop"),
    "slow": _world("slow"),
    "error": _world("error"),
    "refuses": _world("refuse"),
    "a page": _world("page"),
    "a list": _world("list"),
    "an empty answer": _world("empty"),
    "binary": _world("binary"),
    "fails for a while": _world("error", 7),
}
_OF_A_TOKEN_FILE = {
    "file absent": _file_is("token", None),
    "file unreadable": _directory("token"),
    "file garbage": _file_is("token", b"\xff\xfe\n\n"),
    "file empty": _file_is("token", b""),
    "file of another": _file_is("token", f"other-{SECRET}"),
}
_OF_A_PROFILE = {
    "config absent": _file_is("config", None),
    "config unreadable": _directory("config"),
    "config garbage": _file_is("config", GARBAGE),
    "config without header": _file_is("config", f"key = {SECRET}\n"),
    "config empty": _file_is("config", b""),
}
BREAKS: dict[str, dict[str, Callable[[Scene], None]]] = {
    "environment": {"absent": _without_variables},
    "file": {
        "absent": _file_is("credentials", None),
        "name too long": _named("/" + "x" * 5000),
        "home unknown": _named("~nobody-at-all/credentials"),
        "unreadable": _directory("credentials"),
        "garbage": _file_is("credentials", GARBAGE),
        "half": _file_is("credentials", _HALF),
        "empty": _file_is("credentials", b""),
        "other profile": _file_is("credentials", "[other]\nregion = x\n"),
    },
    "process": {
        "absent": _file_is("program", None),
        "unreadable": _directory("program"),
        "garbage": _program(f"echo {SECRET}"),
        "a list": _program(f"echo '[\"{SECRET}\"]'"),
        "an empty object": _program("echo '{\"Version\": 1}'"),
        "version 2": _program("echo '{\"Version\": 2}'"),
        "binary": _program(r"printf '\377\376'"),
        "slow": _program("sleep 30"),
        "fails": _program(f"echo {SECRET} >&2; exit 3"),
        "killed": _program("kill -9 $$"),
        "expired": _program(
            'echo \'{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", '
            '"Expiration": "2020-01-01T00:00:00Z"}\''
        ),
        **_OF_A_PROFILE,
    },
    "container": _OF_AN_ENDPOINT | _OF_A_TOKEN_FILE,
    "web-identity": _OF_AN_ENDPOINT | _OF_A_TOKEN_FILE,
    "instance": _OF_AN_ENDPOINT,
    "sso": _OF_AN_ENDPOINT
    | {
        "cache absent": _cache_is(None),
        "cache unreadable": _cache_directory,
        "cache garbage": _cache_is(GARBAGE),
        "cache a list": _cache_is(f'["{SECRET}"]'),
        "cache without token": _cache_is("{}"),
        "cache expired": _cache_is(
            json.dumps({"accessToken": SECRET, "expiresAt": "2020-01-01T00:00:00Z"})
        ),
    }
    | _OF_A_PROFILE,
    "role": _OF_AN_ENDPOINT
    | {
        "source absent": _file_is("credentials", None),
        "source unreadable": _directory("credentials"),
        "source half": _file_is("credentials", _HALF.replace("default", "base")),
    },
    "role of a program": {
        "absent": _file_is("program", None),
        "slow": _program("sleep 30"),
        "fails": _program(f"echo {SECRET} >&2; exit 3"),
    },
}
