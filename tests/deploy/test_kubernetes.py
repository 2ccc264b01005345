"""The manifests in ``deploy/kubernetes``: the output of kustomize, compared with the daemon and the
rules of Kubernetes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml

from daemon import __version__
from daemon.config.settings import SqliteSettings
from daemon.config.sources import DEFAULT_FILE, ENV_PREFIX, SECRETS_DIR, load_settings
from daemon.observability.http import HealthReport, serve_http
from daemon.observability.metrics import Metrics
from daemon.targets.http.auth import BearerAuth
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from tests.deploy.kubernetes_manifests import (
    DAEMON,
    KUBERNETES,
    NAME_LABEL,
    ONE_DAEMON,
    OVERLAYS,
    Manifest,
    Manifests,
    containers,
    kustomize,
    overlay,
    pod_spec,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from daemon.config.settings import Settings

USER = 10001
ALERTS = KUBERNETES.parent / "monitoring" / "alerts.yml"
OLDEST, NEWEST = "1.29", "1.37"
"""Versions of Kubernetes whose schemas the manifests must fit."""


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return overlay(request.param)


@pytest.fixture(params=ONE_DAEMON)
def one_daemon(request: pytest.FixtureRequest) -> Manifests:
    return overlay(request.param)


@pytest.fixture
def modeldb_v2() -> Manifests:
    return overlay("modeldb-v2")


def daemon_container(manifests: Manifests) -> Manifest:
    [container] = pod_spec(manifests.daemon)["containers"]
    return dict(container)


def settings_of(
    manifests: Manifests, tmp_path: Path, environ: Mapping[str, str] | None = None
) -> Settings:
    """What the daemon makes of the ConfigMap, mounted as the kubelet does it."""
    mounted = volume_of(tmp_path / "config", manifests.config(manifests.daemon)["data"])
    return load_settings(None, environ or {}, tmp_path / "no-secrets", mounted / DEFAULT_FILE.name)


def volume_of(directory: Path, entries: Mapping[str, str]) -> Path:
    """A ConfigMap or Secret volume: files are links through ``..data``, a link itself, which the
    kubelet exchanges for updates.
    """
    real = directory / "..2026_11_23_18_00_00.1234567890"
    real.mkdir(parents=True)
    (directory / "..data").symlink_to(real.name)
    for name, text in entries.items():
        (real / name).write_text(text)
        (directory / name).symlink_to(f"..data/{name}")
    return directory


class TestBuild:
    def test_the_published_schemas_accept_everything(self, manifests: Manifests) -> None:
        kubernetes_validate = pytest.importorskip(
            "kubernetes_validate", reason="needs the Python package kubernetes-validate"
        )
        for version in (OLDEST, NEWEST):
            for document in manifests.documents:
                kubernetes_validate.validate(document, version, strict=True)

    def test_everything_is_in_one_namespace(self, manifests: Manifests) -> None:
        [namespace] = manifests.of_kind("Namespace")
        others = [document for document in manifests.documents if document is not namespace]
        assert {document["metadata"]["namespace"] for document in others} == {
            namespace["metadata"]["name"]
        }

    def test_one_edit_changes_the_image_and_it_is_this_version(self, manifests: Manifests) -> None:
        images = [
            container["image"]
            for workload in manifests.workloads
            for container in containers(workload)
        ]
        [daemon] = [image for image in images if DAEMON in image]
        assert re.fullmatch(rf"ghcr\.io/[\w.-]+/{DAEMON}:{re.escape(__version__)}", daemon)
        named = [
            path
            for path in KUBERNETES.rglob("*")
            if path.is_file() and re.search(r"newTag:|ghcr\.io/|sync:v?\d", path.read_text())
        ]
        assert named == [KUBERNETES / "base" / "kustomization.yaml"]

    def test_every_image_is_pinned(self, manifests: Manifests) -> None:
        for workload in manifests.workloads:
            for container in containers(workload):
                assert re.search(r":\d[\w.-]*$", container["image"]), container["image"]

    def test_a_changed_configuration_is_a_new_pod(self, tmp_path: Path) -> None:
        copy = tmp_path / "kubernetes"
        shutil.copytree(KUBERNETES, copy)
        config = copy / "overlays" / "existing-modeldb" / "config.yaml"
        config.write_text(config.read_text() + "log: {level: debug}\n")
        before, after = overlay("existing-modeldb"), kustomize(config.parent)
        assert pod_spec(before.daemon)["volumes"] != pod_spec(after.daemon)["volumes"]


class TestPodSecurity:
    """The Pod Security Standard "restricted"; in test_kubernetes_api_server.py a real API server
    says the same.
    """

    def test_the_namespace_enforces_it(self, manifests: Manifests) -> None:
        [namespace] = manifests.of_kind("Namespace")
        labels = namespace["metadata"]["labels"]
        assert {
            labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")
        } == {"restricted"}

    def test_every_pod_is_restricted(self, manifests: Manifests) -> None:
        for workload in manifests.workloads:
            spec = pod_spec(workload)
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["runAsUser"] > 0
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for volume in spec.get("volumes", ()):
                assert set(volume) & {"configMap", "emptyDir", "secret", "projected"}, volume
            for container in containers(workload):
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert not {
                    "privileged",
                    "runAsUser",
                    "runAsNonRoot",
                    "seccompProfile",
                    "procMount",
                } & set(context)

    def test_every_pod_is_locked_beyond_it(self, manifests: Manifests) -> None:
        for workload in manifests.workloads:
            spec = pod_spec(workload)
            assert spec["automountServiceAccountToken"] is False
            assert spec["enableServiceLinks"] is False
            assert spec["securityContext"]["runAsGroup"] > 0
            for container in containers(workload):
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert set(container["resources"]["requests"]) == {"cpu", "memory"}
                assert set(container["resources"]["limits"]) == {"memory"}

    def test_the_daemon_is_the_user_of_its_image(self, manifests: Manifests) -> None:
        context = pod_spec(manifests.daemon)["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (
            USER,
            USER,
            USER,
        )


class TestOneDaemon:
    def test_the_old_pod_is_gone_before_the_new_one_starts(self, one_daemon: Manifests) -> None:
        # a StatefulSet never runs two Pods of one number
        assert one_daemon.daemon["kind"] == "StatefulSet"
        spec = one_daemon.daemon["spec"]
        assert spec["replicas"] == 1
        assert spec["updateStrategy"] == {"type": "RollingUpdate"}
        [claim] = spec["volumeClaimTemplates"]
        assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]

    def test_an_update_mends_a_pod_that_never_became_ready(self, one_daemon: Manifests) -> None:
        # OrderedReady waits for the broken Pod first, for ever
        assert one_daemon.daemon["spec"]["podManagementPolicy"] == "Parallel"

    def test_the_service_names_its_pod_in_dns(self, one_daemon: Manifests) -> None:
        service = one_daemon.one("Service", "modeldb-sync")
        assert service["metadata"]["name"] == one_daemon.daemon["spec"]["serviceName"]

    def test_the_volume_is_where_the_checkpoint_is(
        self, one_daemon: Manifests, tmp_path: Path
    ) -> None:
        [claim] = one_daemon.daemon["spec"]["volumeClaimTemplates"]
        mounts = {
            mount["name"]: mount["mountPath"]
            for mount in daemon_container(one_daemon)["volumeMounts"]
        }
        checkpoint = settings_of(one_daemon, tmp_path).checkpoint
        assert isinstance(checkpoint, SqliteSettings)
        assert mounts[claim["metadata"]["name"]] == str(checkpoint.path.parent)


class TestStop:
    def test_a_drain_is_not_held_up(self, manifests: Manifests) -> None:
        [budget] = manifests.of_kind("PodDisruptionBudget")
        assert "minAvailable" not in budget["spec"]
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert budget["spec"]["selector"] == manifests.daemon["spec"]["selector"]

    def test_the_daemon_has_time_to_stop(self, manifests: Manifests, tmp_path: Path) -> None:
        grace = settings_of(manifests, tmp_path).shutdown.grace_seconds
        assert pod_spec(manifests.daemon)["terminationGracePeriodSeconds"] >= grace + 5


class TestConfiguration:
    def test_the_config_map_is_mounted_where_the_daemon_looks(self, manifests: Manifests) -> None:
        mounts = {
            mount["name"]: mount["mountPath"]
            for mount in daemon_container(manifests)["volumeMounts"]
        }
        [volume] = [
            volume for volume in pod_spec(manifests.daemon)["volumes"] if "configMap" in volume
        ]
        assert mounts[volume["name"]] == str(DEFAULT_FILE.parent)
        assert list(manifests.config(manifests.daemon)["data"]) == [DEFAULT_FILE.name]
        # the image's own: run
        assert {"command", "args", "env"}.isdisjoint(daemon_container(manifests))

    def test_the_daemon_can_read_it(self, manifests: Manifests, tmp_path: Path) -> None:
        settings = settings_of(manifests, tmp_path)
        assert settings.queue.url.endswith("/modeldb-sync")
        assert f"//sqs.{settings.aws.region}." in settings.queue.url

    def test_the_secret_may_be_missing(self, manifests: Manifests) -> None:
        [source] = daemon_container(manifests)["envFrom"]
        assert source["secretRef"]["optional"] is True

    def test_entries_of_the_secret_are_settings(self, manifests: Manifests, tmp_path: Path) -> None:
        commands = re.findall(
            r"--from-literal=(target__\w+)=(\w+)", (KUBERNETES / "README.md").read_text()
        )
        [source] = daemon_container(manifests)["envFrom"]
        environ = {source["prefix"] + entry: value for entry, value in commands}
        without, having = tmp_path / "without", tmp_path / "with"
        without.mkdir()
        having.mkdir()
        target = settings_of(manifests, having, environ).target
        assert isinstance(target, ModelDbV2Settings | MlflowSettings)
        assert type(target) is type(settings_of(manifests, without).target)
        auth = target.auth
        assert isinstance(auth, BearerAuth)
        assert auth.token.get_secret_value() == "TOKEN"

    def test_nothing_is_mounted_where_eks_puts_its_token(self, manifests: Manifests) -> None:
        """IRSA: /var/run/secrets/eks.amazonaws.com/serviceaccount, Pod Identity:
        …/pods.eks.amazonaws.com/…, and /var/run is /run.
        """
        for mount in daemon_container(manifests)["volumeMounts"]:
            path = mount["mountPath"].removeprefix("/var").rstrip("/") + "/"
            assert not f"{SECRETS_DIR}/".startswith(path)
            assert not path.startswith(f"{SECRETS_DIR}/")

    def test_a_directory_with_the_token_of_eks_is_no_secret_file(
        self, manifests: Manifests, tmp_path: Path
    ) -> None:
        secrets = tmp_path / "run" / "secrets"
        volume_of(secrets / "eks.amazonaws.com" / "serviceaccount", {"token": "made-up"})
        config = (
            volume_of(tmp_path / "config", manifests.config(manifests.daemon)["data"])
            / DEFAULT_FILE.name
        )
        assert load_settings(None, {}, secrets, config) == load_settings(
            None, {}, tmp_path / "missing", config
        )

    def test_a_secret_volume_as_the_kubelet_makes_it_can_be_read(
        self, manifests: Manifests, tmp_path: Path
    ) -> None:
        entries = {
            "target__auth__kind": "bearer",
            "target__auth__token": "made-up\n",
            "tls.crt": "somebody else's",
        }
        secrets = volume_of(tmp_path / "secrets", entries)
        config = (
            volume_of(tmp_path / "config", manifests.config(manifests.daemon)["data"])
            / DEFAULT_FILE.name
        )
        target = load_settings(None, {}, secrets, config).target
        assert isinstance(target, ModelDbV2Settings | MlflowSettings)
        auth = target.auth
        assert isinstance(auth, BearerAuth)
        assert auth.token.get_secret_value() == "made-up"

    def test_service_links_would_not_stop_the_daemon(
        self, manifests: Manifests, tmp_path: Path
    ) -> None:
        environ = dict(service_links("modeldb-sync", {"metrics": 9090, "http": 80}, "10.96.0.10"))
        assert environ["MODELDB_SYNC_SERVICE_PORT_METRICS"] == "9090"
        assert all(name.startswith(ENV_PREFIX) for name in environ)
        assert settings_of(manifests, tmp_path, environ).http.port == 9090


def service_links(
    service: str, ports: Mapping[str, int], address: str
) -> Iterator[tuple[str, str]]:
    """The variables that the kubelet sets for a Service: those of Kubernetes and those of Docker's
    links.
    """
    name = service.upper().replace("-", "_")
    first = next(iter(ports.values()))
    yield f"{name}_SERVICE_HOST", address
    yield f"{name}_SERVICE_PORT", str(first)
    yield f"{name}_PORT", f"tcp://{address}:{first}"
    for port_name, port in ports.items():
        yield f"{name}_SERVICE_PORT_{port_name.upper().replace('-', '_')}", str(port)
        yield f"{name}_PORT_{port}_TCP", f"tcp://{address}:{port}"
        yield f"{name}_PORT_{port}_TCP_PROTO", "tcp"
        yield f"{name}_PORT_{port}_TCP_PORT", str(port)
        yield f"{name}_PORT_{port}_TCP_ADDR", address


class TestProbesAndMetrics:
    def test_probes_ask_the_daemons_port(self, manifests: Manifests, tmp_path: Path) -> None:
        container = daemon_container(manifests)
        [port] = container["ports"]
        assert port["containerPort"] == settings_of(manifests, tmp_path).http.port
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == port["name"]

    def test_an_outage_never_gets_the_daemon_killed(self, manifests: Manifests) -> None:
        container = daemon_container(manifests)
        assert (
            container["livenessProbe"]["httpGet"]["path"]
            == container["startupProbe"]["httpGet"]["path"]
            == "/healthz"
        )
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"

    async def test_the_daemon_serves_every_path_that_is_asked(
        self, with_components: Manifests
    ) -> None:
        container = daemon_container(with_components)
        paths = {
            container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")
        }
        [monitor] = with_components.of_kind("ServiceMonitor")
        paths |= {endpoint["path"] for endpoint in monitor["spec"]["endpoints"]}

        def fine() -> HealthReport:
            return HealthReport(ok=True, state="fine", checks={})

        server = await serve_http(
            "127.0.0.1",
            0,
            metrics=Metrics(version="0", target="modeldb-v2"),
            healthz=fine,
            readyz=fine,
        )
        try:
            async with aiohttp.ClientSession() as session:
                for path in paths:
                    async with session.get(f"http://127.0.0.1:{server.port}{path}") as answer:
                        assert answer.status == 200, path
        finally:
            await server.aclose()

    def test_the_service_finds_the_pod_also_while_it_is_not_ready(
        self, manifests: Manifests
    ) -> None:
        service = manifests.one("Service", "modeldb-sync")
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True

    def test_prometheus_finds_the_daemon_as_the_alert_rules_call_it(
        self, with_components: Manifests
    ) -> None:
        [monitor] = with_components.of_kind("ServiceMonitor")
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        [service] = [
            found
            for found in with_components.of_kind("Service")
            if wanted <= found["metadata"]["labels"].items()
        ]
        assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} == {
            port["name"] for port in service["spec"]["ports"]
        }
        assert "jobLabel" not in monitor["spec"]  # then the job is called as the Service
        assert set(re.findall(r'job="([^"]+)"', ALERTS.read_text())) == {
            service["metadata"]["name"]
        }

    def test_without_the_component_no_custom_resource_is_needed(self, manifests: Manifests) -> None:
        versions = {document["apiVersion"] for document in manifests.documents}
        assert not [version for version in versions if re.search("coreos|keda", version)]

    def test_the_command_of_the_readme_makes_the_alert_rules_a_resource(self) -> None:
        readme = (KUBERNETES / "README.md").read_text()
        [command] = re.findall(
            r"^    (\{ printf.*?) \| kubectl apply -f -$", readme, re.DOTALL | re.MULTILINE
        )
        done = subprocess.run(
            ["sh", "-euc", command], cwd=KUBERNETES, capture_output=True, text=True, check=True
        )
        rule = yaml.safe_load(done.stdout)
        assert (rule["kind"], rule["metadata"]["namespace"]) == ("PrometheusRule", "modeldb-sync")
        assert rule["spec"] == yaml.safe_load(ALERTS.read_text())


@pytest.fixture(params=OVERLAYS)
def with_components(request: pytest.FixtureRequest, tmp_path: Path) -> Manifests:
    """An overlay with its components uncommented, as its comment and the README say."""
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    kustomization = copy / "overlays" / request.param / "kustomization.yaml"
    text = kustomization.read_text()
    uncommented = re.sub(
        r"^# (components:|  - \.\./\.\./components/)", r"\1", text, flags=re.MULTILINE
    )
    assert uncommented != text
    kustomization.write_text(uncommented)
    return kustomize(kustomization.parent)


class TestNetwork:
    """Who may talk to whom, computed from the policies, for everything that the configuration
    names.
    """

    def test_every_pod_is_under_a_policy_for_both_directions(self, manifests: Manifests) -> None:
        policies = {
            name_of(policy["spec"]["podSelector"]): policy["spec"]["policyTypes"]
            for policy in manifests.of_kind("NetworkPolicy")
        }
        assert policies == {
            pod_name(workload): ["Ingress", "Egress"] for workload in manifests.workloads
        }

    def test_every_address_that_a_pod_is_given_is_a_service_and_allowed(
        self, modeldb_v2: Manifests
    ) -> None:
        links = {
            (client, host, port)
            for client, host, port in addresses(modeldb_v2)
            if host.startswith("modeldb-")
        }
        assert links == {
            (DAEMON, "modeldb-proxy", 8080),
            ("modeldb-backend", "modeldb-postgres", 5432),
            ("modeldb-proxy", "modeldb-backend", 8085),
            ("modeldb-graphql", "modeldb-backend", 8085),
            ("modeldb-frontend", "modeldb-proxy", 8080),
            ("modeldb-frontend", "modeldb-backend", 8086),
            ("modeldb-frontend", "modeldb-graphql", 4000),
        }
        for client, host, port in links:
            service = modeldb_v2.one("Service", host)
            server = name_of({"matchLabels": service["spec"]["selector"]})
            [offered] = [entry for entry in service["spec"]["ports"] if entry["port"] == port]
            number = container_port(modeldb_v2, server, offered["targetPort"])
            assert allows(modeldb_v2, client, "egress", "to", server, number), (client, host, port)
            assert allows(modeldb_v2, server, "ingress", "from", client, number), (
                client,
                host,
                port,
            )

    def test_nobody_else_reaches_the_database_or_the_api(self, modeldb_v2: Manifests) -> None:
        for server, port in (
            ("modeldb-postgres", 5432),
            ("modeldb-backend", 8085),
            ("modeldb-proxy", 8080),
        ):
            assert not allows(modeldb_v2, server, "ingress", "from", "somebody", port)

    def test_the_database_calls_nobody(self, modeldb_v2: Manifests) -> None:
        assert not policy_of(modeldb_v2, "modeldb-postgres").get("egress")

    def test_the_daemon_reaches_aws_dns_and_its_modeldb(
        self, manifests: Manifests, tmp_path: Path
    ) -> None:
        settings = settings_of(manifests, tmp_path)
        target = urlsplit(settings.target.address)
        rules = policy_of(manifests, DAEMON)["egress"]
        anywhere = {
            (port["protocol"], port["port"])
            for rule in rules
            if "to" not in rule
            for port in rule["ports"]
        }
        named = {
            (port["protocol"], port["port"])
            for rule in rules
            if "to" in rule
            for port in rule["ports"]
        }
        assert {("UDP", 53), ("TCP", 53), ("TCP", 443)} <= anywhere
        assert ("TCP", target.port) in anywhere | named
        # the instance's own role, at 169.254.169.254
        assert not any(port == 80 for _, port in anywhere)

    def test_the_agent_of_pod_identity_is_reached(self, manifests: Manifests) -> None:
        rules = policy_of(manifests, DAEMON)["egress"]
        [rule] = [
            rule
            for rule in rules
            if {"ipBlock": {"cidr": "169.254.170.23/32"}} in rule.get("to", ())
        ]
        assert rule["ports"] == [{"protocol": "TCP", "port": 80}]

    def test_only_monitoring_reaches_the_daemon(self, manifests: Manifests) -> None:
        [rule] = policy_of(manifests, DAEMON)["ingress"]
        assert rule["from"] == [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ]
        [port] = daemon_container(manifests)["ports"]
        assert [entry["port"] for entry in rule["ports"]] == [port["containerPort"]]


def name_of(selector: Manifest) -> str:
    [(label, name)] = selector["matchLabels"].items()
    assert label == NAME_LABEL
    return str(name)


def pod_name(workload: Manifest) -> str:
    return str(workload["spec"]["template"]["metadata"]["labels"][NAME_LABEL])


def policy_of(manifests: Manifests, name: str) -> Manifest:
    [policy] = [
        policy
        for policy in manifests.of_kind("NetworkPolicy")
        if name_of(policy["spec"]["podSelector"]) == name
    ]
    return dict(policy["spec"])


def allows(
    manifests: Manifests, name: str, direction: str, side: str, peer: str, port: int
) -> bool:
    return any(
        {"protocol": "TCP", "port": port} in rule["ports"]
        and (
            side not in rule
            or any(
                "podSelector" in entry and name_of(entry["podSelector"]) == peer
                for entry in rule[side]
            )
        )
        for rule in policy_of(manifests, name)[direction]
    )


def container_port(manifests: Manifests, name: str, port_name: str) -> int:
    [workload] = [found for found in manifests.workloads if pod_name(found) == name]
    ports = [port for container in containers(workload) for port in container.get("ports", ())]
    [number] = [port["containerPort"] for port in ports if port["name"] == port_name]
    return int(number)


def addresses(manifests: Manifests) -> Iterator[tuple[str, str, int]]:
    """Every HOST:PORT in the variables and ConfigMaps of the Pods, with the name of the Pod that is
    given it.
    """
    for workload in manifests.workloads:
        given = [
            str(entry.get("value"))
            for container in containers(workload)
            for entry in container.get("env", ())
        ]
        if any("configMap" in volume for volume in pod_spec(workload).get("volumes", ())):
            given += manifests.config(workload)["data"].values()
        for host, port in re.findall(r"([a-z][\w.-]*):(\d+)\b", "\n".join(given)):
            yield pod_name(workload), host, int(port)


class TestAccount:
    def test_irsa_is_an_annotation_of_the_account(self, manifests: Manifests) -> None:
        [account] = manifests.of_kind("ServiceAccount")
        assert re.fullmatch(
            r"arn:aws:iam::\d{12}:role/modeldb-sync",
            account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"],
        )
        assert account["automountServiceAccountToken"] is False
        assert pod_spec(manifests.daemon)["serviceAccountName"] == account["metadata"]["name"]


class TestModelDb:
    def test_its_exits_with_status_0_are_restarted(self, modeldb_v2: Manifests) -> None:
        assert {
            pod_spec(workload).get("restartPolicy", "Always") for workload in modeldb_v2.workloads
        } == {"Always"}

    def test_an_outage_of_the_database_does_not_take_the_back_end_away_for_ever(
        self, modeldb_v2: Manifests
    ) -> None:
        _, backend = containers(modeldb_v2.one("StatefulSet", "modeldb-backend"))
        probes = [backend[probe]["grpc"] for probe in backend if probe.endswith("Probe")]
        assert probes == [{"port": 8085, "service": "live"}] * 3

    def test_its_settings_are_those_of_docker_compose(self, modeldb_v2: Manifests) -> None:
        ours = backend_config(modeldb_v2)
        theirs: dict[str, Any] = yaml.safe_load(
            (KUBERNETES.parent / "compose" / "modeldb" / "config.yaml").read_text()
        )
        for config in (ours, theirs):
            del config["database"]["RdbConfiguration"]["RdbPassword"]
        assert ours == theirs
        assert ours["telemetry"] == {"opt_in": False}
        assert ours["feature-flag"]["store-client-creation-timestamp"] is True

    def test_modeldb_stays_on_the_architecture_of_its_images(self, modeldb_v2: Manifests) -> None:
        wanted = {}
        for workload in modeldb_v2.workloads:
            if any("vertaaiofficial/" in container["image"] for container in containers(workload)):
                wanted[workload["metadata"]["name"]] = workload["spec"]["template"]["spec"].get(
                    "nodeSelector"
                )
        assert len(wanted) == 4
        assert set(map(str, wanted.values())) == {"{'kubernetes.io/arch': 'amd64'}"}

    def test_database_and_back_end_agree(self, modeldb_v2: Manifests) -> None:
        config = backend_config(modeldb_v2)["database"]["RdbConfiguration"]
        [postgres] = containers(modeldb_v2.one("StatefulSet", "modeldb-postgres"))
        given = {entry["name"]: entry for entry in postgres["env"]}
        assert (config["RdbUsername"], config["RdbDatabaseName"]) == (
            given["POSTGRES_USER"]["value"],
            given["POSTGRES_DB"]["value"],
        )
        [init, _] = containers(modeldb_v2.one("StatefulSet", "modeldb-backend"))
        assert (
            given["POSTGRES_PASSWORD"]["valueFrom"]
            == {entry["name"]: entry for entry in init["env"]}["PASSWORD"]["valueFrom"]
        )
        [mount] = [mount for mount in postgres["volumeMounts"] if mount["name"] == "database"]
        # lost+found is beside it
        assert given["PGDATA"]["value"].startswith(mount["mountPath"] + "/")

    def test_the_password_gets_into_its_configuration(
        self, modeldb_v2: Manifests, tmp_path: Path
    ) -> None:
        done = write_backend_config(modeldb_v2, tmp_path, "3f_9-Z")
        assert (done.returncode, done.stderr) == (0, "")
        written = yaml.safe_load((tmp_path / "config" / "config.yaml").read_text())
        assert written["database"]["RdbConfiguration"]["RdbPassword"] == "3f_9-Z"
        written["database"]["RdbConfiguration"]["RdbPassword"] = "@PASSWORD@"
        assert written == backend_config(modeldb_v2)

    @pytest.mark.parametrize("password", ["", "a/b", "a&b", 'a"b', "a b", "a\nb", "ä"])
    def test_a_password_that_would_break_it_is_refused(
        self, modeldb_v2: Manifests, tmp_path: Path, password: str
    ) -> None:
        done = write_backend_config(modeldb_v2, tmp_path, password)
        assert done.returncode == 1
        assert "letters, digits, - and _ only" in done.stderr
        assert not (tmp_path / "config" / "config.yaml").exists()

    def test_the_password_is_in_no_file(self, modeldb_v2: Manifests) -> None:
        assert not modeldb_v2.of_kind("Secret")
        assert (
            backend_config(modeldb_v2)["database"]["RdbConfiguration"]["RdbPassword"]
            == "@PASSWORD@"
        )

    def test_what_has_a_disk_has_one_pod(self, modeldb_v2: Manifests) -> None:
        for workload in modeldb_v2.of_kind("StatefulSet"):
            assert workload["spec"]["replicas"] == 1
            assert [
                claim["spec"]["accessModes"] for claim in workload["spec"]["volumeClaimTemplates"]
            ] == [["ReadWriteOncePod"]]


def backend_config(modeldb_v2: Manifests) -> dict[str, Any]:
    data = modeldb_v2.config(modeldb_v2.one("StatefulSet", "modeldb-backend"))["data"]
    config: dict[str, Any] = yaml.safe_load(data["config.yaml"])
    return config


def write_backend_config(
    modeldb_v2: Manifests, root: Path, password: str
) -> subprocess.CompletedProcess[str]:
    """Runs what the init container runs, with its absolute paths below `root`."""
    backend = modeldb_v2.one("StatefulSet", "modeldb-backend")
    [init, _] = containers(backend)
    volume_of(root / "template", modeldb_v2.config(backend)["data"])
    (root / "config").mkdir()
    [script] = init["args"]
    script = re.sub(r"(?<= |>)/(?=template|config)", f"{root}/", script)
    environ = {"PATH": "/usr/bin:/bin", "PASSWORD": password}
    return subprocess.run(
        [*init["command"], script], env=environ, capture_output=True, text=True, check=False
    )
