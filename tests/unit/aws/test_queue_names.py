"""One queue has many URLs; two queues are never taken for one."""

from __future__ import annotations

import pytest

from daemon.aws.queue_names import QueueName, may_be_one_queue, url_beside

PATH = "/123456789012/jobs"
IRELAND = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"

SPELLINGS = [
    IRELAND,
    f"http://sqs.eu-west-1.amazonaws.com{PATH}",
    f"https://SQS.EU-WEST-1.AMAZONAWS.COM{PATH}",
    f"https://sqs.eu-west-1.amazonaws.com.{PATH}",
    f"https://sqs.eu-west-1.amazonaws.com:443{PATH}",
    f"https://sqs.eu-west-1.amazonaws.com{PATH}/",
    f"https://sqs.eu-west-1.amazonaws.com/{PATH}",
    f"https://sqs.eu-west-1.amazonaws.com{PATH}?Version=2012-11-05",
    f"https://eu-west-1.queue.amazonaws.com{PATH}",
    f"https://sqs-fips.eu-west-1.amazonaws.com{PATH}",
    f"https://sqs.eu-west-1.api.aws{PATH}",
    f"https://vpce-0a1b2c3d4e5f-7g8h.sqs.eu-west-1.vpce.amazonaws.com{PATH}",
    f"https://vpce-0a1b2c3d4e5f-7g8h-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com{PATH}",
    f"https://sqs.internal.example.com{PATH}",
    f"http://10.0.0.7:8080{PATH}",
    f"http://[::1]:4566{PATH}",
    f"http://localhost:4566{PATH}",
    f"http://localhost:4566/queue/eu-west-1{PATH}",
    f"http://sqs.eu-west-1.localhost.localstack.cloud:4566{PATH}",
]


@pytest.mark.parametrize("url", SPELLINGS)
@pytest.mark.parametrize("other", [IRELAND, f"http://127.0.0.1:5000{PATH}"])
def test_every_spelling_of_a_queue_is_the_queue(url: str, other: str) -> None:
    assert may_be_one_queue(url, other)
    assert may_be_one_queue(other, url)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        (f"https://queue.amazonaws.com{PATH}", f"https://sqs.us-east-1.amazonaws.com{PATH}"),
        (
            f"https://sqs.cn-north-1.amazonaws.com.cn{PATH}",
            f"https://cn-north-1.queue.amazonaws.com.cn{PATH}",
        ),
        (
            f"https://sqs.us-gov-west-1.amazonaws.com{PATH}",
            f"https://sqs-fips.us-gov-west-1.amazonaws.com{PATH}",
        ),
        (
            f"https://sqs.eusc-de-east-1.amazonaws.eu{PATH}",
            f"http://sqs.eusc-de-east-1.amazonaws.eu{PATH}",
        ),
    ],
    ids=["oldest host", "China", "GovCloud", "European sovereign cloud"],
)
def test_also_in_other_partitions(url: str, other: str) -> None:
    assert may_be_one_queue(url, other)


@pytest.mark.parametrize(
    "other",
    [
        f"{IRELAND}-dead",
        IRELAND.replace("jobs", "Jobs"),
        IRELAND.replace("123456789012", "123456789013"),
        IRELAND.replace("eu-west-1", "eu-west-2"),
        f"https://queue.amazonaws.com{PATH}",
        f"https://vpce-0a1b2c3d4e5f-7g8h.sqs.eu-central-1.vpce.amazonaws.com{PATH}",
        f"http://localhost:4566/queue/us-east-1{PATH}",
    ],
)
def test_another_queue_is_another_queue(other: str) -> None:
    assert not may_be_one_queue(IRELAND, other)


def test_a_queue_of_an_arn_is_found_beside_another() -> None:
    queue = QueueName.of_arn("arn:aws-cn:sqs:cn-north-1:000000000042:dead")

    assert queue == QueueName("000000000042", "dead", "cn-north-1")
    assert url_beside(f"{IRELAND}/", queue) == (
        "https://sqs.eu-west-1.amazonaws.com/000000000042/dead"
    )


@pytest.mark.parametrize(
    "arn", ["", "jobs", "arn:aws:sqs:eu-west-1:123456789012", "arn:aws:sns:eu-west-1:1:jobs"]
)
def test_what_is_no_arn_of_a_queue_has_no_name(arn: str) -> None:
    assert QueueName.of_arn(arn) is None
