"""The AWS clients: their endpoints, retries, timeouts and user agent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon import __version__
from daemon.aws.clients import Endpoints, QueueAddress, open_clients
from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault, SetupFault
from daemon.reasons import Reason
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

EU_QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@asynccontextmanager
async def server(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Any HTTP server on a free port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        (EU_QUEUE, "eu-west-1", None),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/jobs", "eu-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs", "cn-north-1", None),
        ("https://sqs.us-gov-west-1.amazonaws.com/1/jobs", "us-gov-west-1", None),
        (
            "https://sqs-fips.us-east-1.amazonaws.com/1/jobs",
            "us-east-1",
            "https://sqs-fips.us-east-1.amazonaws.com",
        ),
        (
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/123456789012/jobs",
            None,
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com",
        ),
        ("http://127.0.0.1:9324/000000000000/jobs", None, "http://127.0.0.1:9324"),
        ("http://elasticmq/queue/jobs", None, "http://elasticmq"),
    ],
)
def test_a_queue_url_says_where_to_ask(url: str, region: str | None, endpoint: str | None) -> None:
    assert QueueAddress.of(url) == QueueAddress(region, endpoint)


async def test_the_region_is_the_configured_one() -> None:
    async with open_clients(
        queue_url="http://127.0.0.1:9324/1/jobs", region="cn-north-1"
    ) as clients:
        assert (clients.region, clients.partition) == ("cn-north-1", "aws-cn")
        assert {
            client.meta.region_name
            for client in (clients.sqs, clients.sqs_polling, clients.sagemaker)
        } == {"cn-north-1"}
        assert (
            clients.sagemaker.meta.endpoint_url
            == "https://api.sagemaker.cn-north-1.amazonaws.com.cn"
        )


async def test_a_region_unknown_to_botocore_is_taken_for_one_of_the_largest_partition() -> None:
    async with open_clients(
        queue_url="http://127.0.0.1:9324/1/jobs", region="new-place-1"
    ) as clients:
        assert (clients.region, clients.partition) == ("new-place-1", "aws")


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_DEFAULT_REGION": "us-gov-west-1"},
        {"AWS_REGION": "us-gov-west-1", "AWS_DEFAULT_REGION": "eu-west-1"},
    ],
)
async def test_the_region_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    async with open_clients(queue_url="http://127.0.0.1:9324/1/jobs") as clients:
        assert (clients.region, clients.partition) == ("us-gov-west-1", "aws-us-gov")


async def test_the_region_of_the_queue_is_better_than_none() -> None:
    async with open_clients(queue_url=EU_QUEUE) as clients:
        assert clients.region == "eu-west-1"
        assert clients.sqs.meta.endpoint_url == "https://sqs.eu-west-1.amazonaws.com"


async def test_without_any_region_the_key_is_named() -> None:
    with pytest.raises(SetupFault, match=r"aws\.region"):
        async with open_clients(queue_url="http://127.0.0.1:9324/1/jobs"):
            pass


async def test_another_region_than_the_queues_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupFault, match=r"in region eu-west-1, but aws\.region says us-east-1"):
        async with open_clients(queue_url=EU_QUEUE, region="us-east-1"):
            pass

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(SetupFault, match="in region eu-west-1, but the environment"):
        async with open_clients(queue_url=EU_QUEUE):
            pass


async def test_an_address_of_its_own_may_stand_for_any_region() -> None:
    endpoints = Endpoints(sqs="http://127.0.0.1:9324")

    async with open_clients(queue_url=EU_QUEUE, region="us-east-1", endpoints=endpoints) as clients:
        assert clients.region == "us-east-1"
        assert (
            clients.sqs.meta.endpoint_url
            == clients.sqs_polling.meta.endpoint_url
            == "http://127.0.0.1:9324"
        )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("AWS_PROFILE", "no-such-profile"), ("AWS_ENDPOINT_URL_SAGEMAKER", "no address")],
)
async def test_what_botocore_refuses_is_a_fault_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)

    with pytest.raises(SetupFault, match=value):
        async with open_clients(queue_url=EU_QUEUE):
            pass


async def test_half_of_the_credentials_is_a_fault_of_the_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    async with open_clients(queue_url=EU_QUEUE) as clients:
        with pytest.raises(EdgeFault, match="AWS_SECRET_ACCESS_KEY is missing") as caught:
            await SqsQueue(clients.sqs_polling, clients.sqs, EU_QUEUE).state()

    assert (caught.value.reason, caught.value.curable) == (Reason.CREDENTIALS, False)


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle"])
@pytest.mark.parametrize("broken", ["absent", "a directory", "garbage", "empty", "binary"])
async def test_authorities_that_cannot_be_read_are_waited_for_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, broken: str
) -> None:
    path = tmp_path / "authorities.pem"
    name = variable
    if broken == "a directory":
        path.mkdir()
    elif broken != "absent":
        path.write_bytes({"garbage": b"no PEM", "empty": b"", "binary": b"\xff\x00"}[broken])
    if variable == "ca_bundle":
        config = tmp_path / "config"
        config.write_text(f"[default]\nca_bundle = {path}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        name = f"ca_bundle in {config}"
    else:
        monkeypatch.setenv(variable, str(path))

    with pytest.raises(EdgeFault) as caught:
        async with open_clients(queue_url=EU_QUEUE):
            pass

    assert f"{name} names {path}, from which no certificate" in caught.value.detail
    assert "\n" not in caught.value.detail
    assert (caught.value.reason, caught.value.curable) == (Reason.UNREACHABLE, True)


async def test_authorities_in_pem_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(Authority(tmp_path, "own").file))
    async with open_clients(queue_url=EU_QUEUE) as clients:
        assert clients.region == "eu-west-1"


async def test_without_credentials_the_first_call_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    async with open_clients(queue_url=EU_QUEUE) as clients:
        with pytest.raises(EdgeFault, match="no AWS credentials") as caught:
            await SqsQueue(clients.sqs_polling, clients.sqs, EU_QUEUE).state()

    assert caught.value.reason is Reason.CREDENTIALS


@pytest.mark.usefixtures("no_backoff")
async def test_polls_are_never_repeated_and_other_calls_are() -> None:
    operations: list[str] = []

    async def unavailable(request: web.Request) -> web.Response:
        operations.append(request.headers["X-Amz-Target"])
        return web.Response(status=503, text="<html>down</html>", content_type="text/html")

    async with (
        server(unavailable) as url,
        open_clients(queue_url=f"{url}/1/jobs", region="eu-west-1") as clients,
    ):
        queue = SqsQueue(clients.sqs_polling, clients.sqs, f"{url}/1/jobs")
        for call in (
            queue.receive(limit=1, wait_seconds=0, visibility_seconds=30),
            queue.delete(["h"]),
        ):
            with pytest.raises(EdgeFault) as caught:
                await call
            assert caught.value.reason is Reason.UNAVAILABLE

    assert operations == ["AmazonSQS.ReceiveMessage"] + 3 * ["AmazonSQS.DeleteMessageBatch"]


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_a_web_page_is_not_taken_for_an_empty_queue(status: int) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(
            status=status, text="<html>Please log in</html>", content_type="text/html"
        )

    async with (
        server(page) as url,
        open_clients(queue_url=f"{url}/1/jobs", region="eu-west-1") as clients,
    ):
        queue = SqsQueue(clients.sqs_polling, clients.sqs, f"{url}/1/jobs")
        with pytest.raises(EdgeFault, match=f"HTTP {status} with text/html") as caught:
            await queue.receive(limit=1, wait_seconds=0, visibility_seconds=30)

    assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, False)


@pytest.mark.parametrize("body", ["", "[]", '"ok"'])
async def test_json_of_another_kind_is_not_taken_for_an_empty_queue(body: str) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    async with (
        server(other) as url,
        open_clients(queue_url=f"{url}/1/jobs", region="eu-west-1") as clients,
    ):
        with pytest.raises(EdgeFault) as caught:
            await SqsQueue(clients.sqs_polling, clients.sqs, f"{url}/1/jobs").receive(
                limit=1, wait_seconds=0, visibility_seconds=30
            )

    assert caught.value.reason is Reason.NOT_THE_API


async def test_the_program_names_itself_to_aws() -> None:
    agents: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        agents.append(request.headers["User-Agent"])
        return web.Response(text="{}", content_type="application/x-amz-json-1.0")

    async with (
        server(answer) as url,
        open_clients(queue_url=f"{url}/1/jobs", region="eu-west-1") as clients,
    ):
        queue = SqsQueue(clients.sqs_polling, clients.sqs, f"{url}/1/jobs")
        await queue.receive(limit=1, wait_seconds=0, visibility_seconds=30)
        await queue.delete(["h"])

    assert len(agents) == 2
    assert all(agent.startswith(f"sagemaker-modeldb-sync/{__version__} ") for agent in agents)


async def test_as_many_polls_as_pollers_run_at_once() -> None:
    arrived = 0
    all_arrived = asyncio.Event()

    async def wait_for_all(_request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == 12:
            all_arrived.set()
        await all_arrived.wait()
        return web.Response(text="{}", content_type="application/x-amz-json-1.0")

    async with (
        server(wait_for_all) as url,
        open_clients(queue_url=f"{url}/1/jobs", region="eu-west-1", pollers=12) as clients,
        asyncio.timeout(10),
    ):
        queue = SqsQueue(clients.sqs_polling, clients.sqs, f"{url}/1/jobs")
        polls = [queue.receive(limit=1, wait_seconds=20, visibility_seconds=30) for _ in range(12)]
        assert await asyncio.gather(*polls) == [[]] * 12


async def test_a_poll_outlives_the_time_out_of_other_calls() -> None:
    async with open_clients(queue_url=EU_QUEUE, wait_seconds=20) as clients:
        assert clients.sqs_polling.meta.config.read_timeout > 20  # type: ignore[attr-defined] # botocore-stubs omit it


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("eu-west-1", "https://metrics.sagemaker.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "https://metrics.sagemaker.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://metrics.sagemaker.cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_metric_series_have_a_client_of_their_own_only_where_they_are_wanted(
    region: str, endpoint: str
) -> None:
    url = "http://127.0.0.1:9324/1/jobs"
    async with open_clients(queue_url=url, region=region) as clients:
        assert clients.sagemaker_metrics is None
    async with open_clients(queue_url=url, region=region, metric_series=True) as clients:
        made: Any = clients.sagemaker_metrics
        assert made.meta.endpoint_url == endpoint
        assert made.meta.service_model.signing_name == "sagemaker"
    endpoints = Endpoints(sagemaker_metrics="http://127.0.0.1:1")
    async with open_clients(
        queue_url=url, region=region, endpoints=endpoints, metric_series=True
    ) as clients:
        made = clients.sagemaker_metrics
        assert made.meta.endpoint_url == "http://127.0.0.1:1"
