"""A real Kubernetes API server with its etcd on the loopback interface, and just enough of a
client. No controllers, no nodes.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.deploy.kubernetes_manifests import Manifest

TOKEN = "made-up"
START_SECONDS = 90.0
_PLURALS = {"NetworkPolicy": "networkpolicies"}
_CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition"}


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...]


class ApiServer:
    """A client that may do everything."""

    def __init__(self, url: str, certificates: Path) -> None:
        self._url = url
        self._certificates = certificates

    def ask(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        request = urllib.request.Request(
            self._url + path, json.dumps(body).encode() if body else None, method=method
        )
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", content_type)
        context = ssl.create_default_context(cafile=str(self._certificates / "apiserver.crt"))
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as answer:
                return Answer(
                    answer.status,
                    _json(answer.read()),
                    tuple(answer.headers.get_all("Warning") or ()),
                )
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _json(error.read()), ())

    def apply(self, manifest: Manifest) -> Answer:
        """What ``kubectl apply --server-side`` does. An unknown or repeated field is an error."""
        path = f"{_collection(manifest)}/{manifest['metadata']['name']}"
        path += "?fieldManager=tests&fieldValidation=Strict&force=true"
        return self.ask("PATCH", path, manifest, "application/apply-patch+yaml")

    def create(self, manifest: Manifest) -> Answer:
        return self.ask("POST", f"{_collection(manifest)}?fieldValidation=Strict", manifest)

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz").status == 200
        except OSError:  # not listening yet, or its certificate is not there yet
            return False


def _json(text: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"text": text.decode()}
    return body


def _collection(manifest: Manifest) -> str:
    version, kind = manifest["apiVersion"], manifest["kind"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = "" if kind in _CLUSTER_WIDE else f"/namespaces/{manifest['metadata']['namespace']}"
    return f"{group}{namespace}/{_PLURALS.get(kind, kind.lower() + 's')}"


@contextlib.contextmanager
def api_server(home: Path, free_port: Callable[[], int]) -> Iterator[ApiServer]:
    """Runs the programs that KUBE_APISERVER and ETCD name; without them the test is skipped."""
    server, etcd = os.environ.get("KUBE_APISERVER"), os.environ.get("ETCD")
    if not server or not etcd:
        pytest.skip(
            "needs the paths of the programs in KUBE_APISERVER and ETCD: "
            "tests/deploy/kubernetes_programs/README.md"
        )
    certificates, key, tokens = (
        home / "certificates",
        home / "service-account.key",
        home / "tokens.csv",
    )
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
    storage, peers, port = (free_port() for _ in range(3))
    with contextlib.ExitStack() as running:
        _run(
            running,
            home / "etcd.log",
            etcd,
            f"--data-dir={home / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{storage}",
            f"--advertise-client-urls=http://127.0.0.1:{storage}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
        )
        program = _run(
            running,
            home / "kube-apiserver.log",
            server,
            f"--etcd-servers=http://127.0.0.1:{storage}",
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--cert-dir={certificates}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
        )
        client = ApiServer(f"https://127.0.0.1:{port}", certificates)
        give_up = time.monotonic() + START_SECONDS
        while not client.is_ready():
            assert program.poll() is None, (home / "kube-apiserver.log").read_text()[-3000:]
            assert time.monotonic() < give_up, (home / "kube-apiserver.log").read_text()[-3000:]
            time.sleep(0.1)
        yield client


def _run(running: contextlib.ExitStack, log: Path, *command: str) -> subprocess.Popen[bytes]:
    """Starts a program that ends with the stack, its output in a file."""
    output = running.enter_context(log.open("wb"))
    program = subprocess.Popen(command, stdout=output, stderr=output)
    running.callback(_end, program)
    return program


def _end(program: subprocess.Popen[bytes]) -> None:
    program.kill()  # nothing of it is kept
    program.wait()
