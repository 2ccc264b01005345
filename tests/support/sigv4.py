"""Checks AWS Signature Version 4 as AWS's documentation describes it, from the raw request that a
server received: no line of botocore.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

UNRESERVED = re.compile(r"(?:[A-Za-z0-9._~/=&-]|%[0-9A-F]{2})*")


def objection(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    secrets: dict[str, str],
    region: str,
    service: str,
) -> str:
    """Why a request is refused; "": its signature is right.

    Args:
        method: as received.
        target: path and query, exactly as received.
        headers: as received.
        body: as received.
        secrets: secret keys by access key.
        region: of the server.
        service: of the server.
    """
    given = [(name.lower(), " ".join(value.split())) for name, value in headers]
    by_name = dict(given)
    pattern = (
        r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/"
        r"(?P<service>[^/]+)/aws4_request, SignedHeaders=(?P<signed>[^,]+), "
        r"Signature=(?P<signature>[0-9a-f]{64})"
    )
    found = re.fullmatch(pattern, by_name.get("authorization", ""))
    if found is None:
        return "no signature"
    path, _, query = target.partition("?")
    signed = found["signed"].split(";")
    wanted = {"host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"} & {*by_name}
    digest = hashlib.sha256(body).hexdigest()
    objections = {
        f"unknown key {found['key']}": found["key"] not in secrets,
        f"for {found['region']}, {found['service']}": (found["region"], found["service"])
        != (region, service),
        "another body": by_name.get("x-amz-content-sha256") != digest,
        f"a query that is read in several ways: {query}": not UNRESERVED.fullmatch(query),
        f"unsigned {wanted - {*signed}}": not wanted <= {*signed},
    }
    for text, applies in objections.items():
        if applies:
            return text
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in sorted(map(_encoded, pairs))),
            *(f"{name}:{by_name.get(name, '')}" for name in signed),
            "",
            found["signed"],
            digest,
        ]
    )
    scope = f"{found['day']}/{region}/{service}/aws4_request"
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            by_name["x-amz-date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{secrets[found['key']]}".encode()
    for part in (found["day"], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return "" if hmac.compare_digest(signature, found["signature"]) else "another signature"


def _encoded(pair: Sequence[str]) -> tuple[str, str]:
    name, value = (quote(unquote_to_bytes(part), safe="-_.~") for part in pair)
    return name, value
