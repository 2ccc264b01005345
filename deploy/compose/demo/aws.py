"""An AWS emulator (moto's server) in which the daemon's queues and its EventBridge rule exist.

Runs in moto's image, as service ``demo-aws`` of ``docker-compose.yml``. It listens only once the
queues exist: the daemon waits for an AWS that does not answer yet, but takes a missing queue for a
configuration error.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

ACCOUNT = "123456789012"
"""Moto's own."""
REGION = os.environ["AWS_REGION"]
PORT = 5000
QUEUE = "modeldb-sync"
DEAD_LETTERS = "modeldb-sync-dead-letters"
PATTERN = Path(__file__).with_name("rule-pattern.json")


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    private = ThreadedMotoServer("127.0.0.1", 0)
    private.start()
    host, port = private.get_host_and_port()
    wire(f"http://{host}:{port}")
    private.stop()
    ThreadedMotoServer("0.0.0.0", PORT).start()  # noqa: S104 - compose decides who reaches it; what it holds is the process's, not the server's
    print(
        f"queue {QUEUE}, dead-letter queue {DEAD_LETTERS} and the rule are there; listening on "
        f"port {PORT}",
        flush=True,
    )
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def wire(url: str) -> None:
    """Creates what deploy/cloudformation creates on AWS: both queues, the rule and its target."""
    aws = boto3.Session(region_name=REGION)
    sqs, events = (aws.client(service, endpoint_url=url) for service in ("sqs", "events"))
    redrive = json.dumps({"deadLetterTargetArn": queue_arn(DEAD_LETTERS), "maxReceiveCount": 10})
    sqs.create_queue(QueueName=DEAD_LETTERS, Attributes={"MessageRetentionPeriod": "1209600"})
    sqs.create_queue(
        QueueName=QUEUE, Attributes={"VisibilityTimeout": "120", "RedrivePolicy": redrive}
    )
    events.put_rule(Name=QUEUE, EventPattern=PATTERN.read_text())
    events.put_targets(Rule=QUEUE, Targets=[{"Id": "queue", "Arn": queue_arn(QUEUE)}])


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


if __name__ == "__main__":
    main()
