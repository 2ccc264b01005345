"""How a job read an input channel, as one line for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.training_job.channels import Channel


def channel_details(channel: Channel) -> str:
    """What is known of it, without its name and location."""
    reported = {
        "source": channel.kind,
        "type": channel.s3_data_type,
        "distribution": channel.distribution,
        "content type": channel.content_type,
        "input mode": channel.input_mode,
        "compression": channel.compression,
        "record wrapper": channel.record_wrapper,
        "access": channel.access_mode,
        "attributes": ", ".join(channel.attribute_names) or None,
        "instance groups": ", ".join(channel.instance_groups) or None,
        "hub content": channel.hub_content_arn,
        "licence": {True: "accepted", False: "not accepted", None: None}[channel.eula_accepted],
        "shuffle seed": channel.shuffle_seed,
    }
    return "; ".join(
        f"{label} {value}" for label, value in reported.items() if value not in {None, "None"}
    )
