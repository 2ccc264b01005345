"""Task definition and service for use without CloudFormation, compared with the API, the image and
the template.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon import __version__
from daemon.config.settings import (
    HttpSettings,
    JobSettings,
    Settings,
    ShutdownSettings,
    SqliteSettings,
)
from daemon.config.sources import load_settings
from daemon.observability.http import HealthReport, serve_http
from daemon.observability.metrics import Metrics
from tests.deploy.prometheus import tool
from tests.deploy.stacks import (
    FARGATE,
    ROOT,
    Deployer,
    Stack,
    as_request,
    client,
    ecs_objections,
    leave_no_value_out,
)
from tests.support.daemon_process import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# moto: of what it does not deploy
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")

FOLDER = ROOT / "deploy/ecs"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PLACEHOLDERS = {
    "ACCOUNT": ACCOUNT,
    "REGION": REGION,
    "MODELDB": "modeldb-proxy.internal",
    "CLUSTER": "shared",
    "SUBNET": "subnet-0a1b2c3d",
    "SECURITY_GROUP": "sg-0a1b2c3d",
}


def shipped(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def filled_in(name: str) -> Any:
    """A file with its placeholders replaced, as its README says."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    for placeholder, value in PLACEHOLDERS.items():
        text = re.sub(rf"\b{placeholder}\b", value, text)
    return json.loads(text)


@pytest.fixture
def container() -> dict[str, Any]:
    [one] = filled_in("task-definition.json")["containerDefinitions"]
    return dict(one)


@pytest.fixture(scope="module")
def stack(moto_endpoint: str) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_no_value_out(monkeypatch)
        yield Deployer(moto_endpoint).deploy(**FARGATE)


def settings_of(container: Mapping[str, Any]) -> Settings:
    variables = {each["name"]: each["value"] for each in container["environment"]}
    return load_settings(
        None, variables, default_path=ROOT / "missing", secrets_dir=ROOT / "missing"
    )


@pytest.mark.parametrize(
    ("file", "operation"),
    [("task-definition.json", "RegisterTaskDefinition"), ("service.json", "CreateService")],
)
def test_the_api_takes_the_files(file: str, operation: str) -> None:
    assert ecs_objections(operation, filled_in(file)) == ""


def test_both_can_be_made(moto_endpoint: str) -> None:
    ecs, ec2 = client("ecs", moto_endpoint), client("ec2", moto_endpoint)
    ecs.create_cluster(clusterName="shared")
    task = ecs.register_task_definition(**filled_in("task-definition.json"))["taskDefinition"]
    assert (task["family"], task["networkMode"]) == ("modeldb-sync", "awsvpc")
    service = filled_in("service.json")
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    network["subnets"] = [ec2.describe_subnets()["Subnets"][0]["SubnetId"]]
    network["securityGroups"] = [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]]
    made = ecs.create_service(**service)["service"]
    assert (made["taskDefinition"], made["desiredCount"]) == (task["taskDefinitionArn"], 1)


def test_they_are_what_the_template_makes(stack: Stack) -> None:
    ours, theirs = (
        shipped("task-definition.json"),
        as_request(stack.as_shipped(stack.resolved("TaskDefinition"))),
    )
    for role in ("taskRoleArn", "executionRoleArn"):
        assert ours.pop(role)
        assert theirs.pop(role)
    [our_container], [their_container] = (
        ours.pop("containerDefinitions"),
        theirs.pop("containerDefinitions"),
    )
    our_environment = {each["name"] for each in our_container.pop("environment")}
    assert our_environment <= {each["name"] for each in their_container.pop("environment")}
    assert our_container == their_container
    assert ours == theirs

    service, made = shipped("service.json"), as_request(stack.as_shipped(stack.resolved("Service")))
    for own in ("cluster", "taskDefinition", "networkConfiguration"):
        del service[own], made[own]
    assert service == made


def test_the_variables_are_a_configuration_with_the_daemons_defaults(
    container: dict[str, Any],
) -> None:
    settings = settings_of(container)
    assert settings.queue.url == f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/modeldb-sync"
    assert (settings.aws.region, settings.aws.account_id) == (REGION, ACCOUNT)
    assert settings.jobs == JobSettings()


def test_its_image_is_this_version(container: dict[str, Any]) -> None:
    assert container["image"].endswith(f"/sagemaker-modeldb-sync:{__version__}")


def test_it_fits_the_image(container: dict[str, Any]) -> None:
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    [volume] = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    [port] = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, flags=re.MULTILINE)
    assert container["user"] == user
    # Fargate gives a volume the content, owner and mode of the image's VOLUME of exactly this path
    # (ECS developer guide, "Bind mounts")
    [mount] = container["mountPoints"]
    assert mount["containerPath"] == volume == str(SqliteSettings().path.parent)
    assert not mount["readOnly"]
    assert container["portMappings"] == [{"containerPort": int(port), "protocol": "tcp"}]
    assert int(port) == HttpSettings().port
    assert "entryPoint" not in container
    assert "command" not in container


def test_its_health_check_is_that_of_the_image(container: dict[str, Any]) -> None:
    [(options, command)] = re.findall(
        r"^HEALTHCHECK (.*?) \\\n\s+CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE
    )
    check = dict(container["healthCheck"])
    assert check.pop("command") == ["CMD", *json.loads(command)]
    of_image = {
        name.replace("start-period", "startPeriod"): int(value.rstrip("s"))
        for name, value in re.findall(r"--([\w-]+)=(\w+)", options)
    }
    assert check == of_image


@pytest.mark.parametrize(("alive", "status"), [(True, 0), (False, 1)])
async def test_its_health_check_says_whether_the_daemon_is_alive(
    container: dict[str, Any],
    alive: bool,  # noqa: FBT001 - the case
    status: int,
) -> None:
    report = HealthReport(alive, "a test", {})
    metrics = Metrics(version="0", target="modeldb-v2")
    server = await serve_http(
        "127.0.0.1",
        0,
        metrics=metrics,
        healthz=lambda: report,
        readyz=lambda: HealthReport(True, "", {}),
    )
    try:
        _, _python, *arguments = container["healthCheck"]["command"]
        checked = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env={"MODELDB_SYNC_HTTP__PORT": str(server.port)},
            stderr=subprocess.DEVNULL,
        )
        assert await checked.wait() == status
    finally:
        await server.aclose()


def test_ecs_waits_longer_for_the_end_than_the_daemon_takes(container: dict[str, Any]) -> None:
    # Fargate's longest
    assert ShutdownSettings().grace_seconds + 5 <= container["stopTimeout"] <= 120


def test_the_container_can_do_nothing_but_its_work(container: dict[str, Any]) -> None:
    assert container["readonlyRootFilesystem"]
    assert container["linuxParameters"] == {"capabilities": {"drop": ["ALL"]}}
    assert not container.get("privileged")


def test_its_readme_names_files_and_placeholders_that_are_there() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    files = re.findall(r"file://(\S+)", readme)
    assert {
        "deploy/ecs/task-definition.json",
        "deploy/ecs/service.json",
        "deploy/iam/task-policy.json",
    } <= set(files)
    assert [file for file in files if not (ROOT / file).exists()] == []
    text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
    names = set(
        re.findall(r"\b(?:ACCOUNT|REGION|OWNER|MODELDB|CLUSTER|SUBNET|SECURITY_GROUP)\b", text)
    )
    assert {name for name in names if f"`{name}`" not in readme} == set()
    assert [
        link for link in re.findall(r"\]\(([^)#]+)\)", readme) if not (FOLDER / link).exists()
    ] == []


def scrape_example(folder: str) -> str:
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(scrape_configs:\n.*?)```", text, flags=re.DOTALL)
    return str(example)


def test_prometheus_takes_the_scrape_configuration_of_the_readmes(tmp_path: Path) -> None:
    example = scrape_example("deploy/ecs")
    assert example == scrape_example("deploy/cloudformation")
    file = tmp_path / "prometheus.yml"
    file.write_text(example, encoding="utf-8")
    checked = subprocess.run(
        [tool("promtool"), "check", "config", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_scrape_configuration_finds_the_task_under_the_name_of_the_alerts_job(
    container: dict[str, Any],
) -> None:
    [job] = yaml.safe_load(scrape_example("deploy/ecs"))["scrape_configs"]
    [own, *_] = yaml.safe_load(
        (ROOT / "deploy/monitoring/prometheus.yml").read_text(encoding="utf-8")
    )["scrape_configs"]
    assert job["job_name"] == own["job_name"]
    [lookup] = job["dns_sd_configs"]
    [port] = container["portMappings"]
    assert (lookup["type"], lookup["port"]) == ("A", port["containerPort"])
    # the example's service of Cloud Map, and the namespace
    [name] = re.findall(
        r"aws servicediscovery create-service --name (\S+)",
        (FOLDER / "README.md").read_text(encoding="utf-8"),
    )
    assert lookup["names"] == [f"{name}.NAMESPACE"]


def test_the_api_takes_the_service_with_the_registry_of_the_readme() -> None:
    [member] = re.findall(
        r'^    ("serviceRegistries": .+)$',
        (FOLDER / "README.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert (
        ecs_objections("CreateService", filled_in("service.json") | json.loads(f"{{{member}}}"))
        == ""
    )
