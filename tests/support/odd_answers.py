"""Answers that no API gives, but that proxies, gateways and wrong addresses do.

`HTTP_ODDITIES` are whole answers on the wire. `twisted` makes more of a good JSON answer: each of
its members is replaced by each of some values of other types.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEEP = 100_000

BODIES: Mapping[str, bytes] = {
    "Latin-1 text": "Zugriff verweigert für Sie".encode("latin-1"),
    "Latin-1 JSON": '{"__type": "Zurück", "message": "für"}'.encode("latin-1"),
    "numeric __type": b'{"__type": 403, "message": 5, "code": [1]}',
    "list as __type": b'{"__type": ["a"], "message": {"a": 1}, "code": {"b": 2}}',
    "null members": b'{"__type": null, "message": null, "code": null, "error": null}',
    "null": b"null",
    "half-formed JSON": b'{"__type": "com.amazon#Thrott',
    "empty": b"",
    "empty object": b"{}",
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep array": b"[" * DEEP + b"]" * DEEP,
    "array": b'[{"__type": "a"}]',
    "number": b"1e999",
    "string": b'"no"',
    "NaN": b'{"a": NaN, "code": Infinity, "message": -Infinity}',
    "HTML": b"<!doctype html><title>Access denied</title>",
    "binary": bytes(range(256)),
    "UTF-16": '{"message": "no"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"message": "no"}',
    "lone surrogate": b'{"__type": "\\ud800", "message": "\\udfff", "code": 5}',
    "digits": b'{"code": ' + b"9" * 5000 + b"}",
    "XML": b"<ErrorResponse><Error><Code/></Error></ErrorResponse>",
    "half-formed XML": b"<GetCallerIdentityResponse><Acc",
    "other XML": b'<a xmlns="b"><GetCallerIdentityResult>5</GetCallerIdentityResult></a>',
}
STATUSES = (200, 403, 404, 500, 502, 503)


def http(status: int | str, body: bytes = b"", **headers: str | int) -> bytes:
    """An answer on the wire; headers with ``_`` for ``-``."""
    usual = {"Content_Type": "application/json", "Content_Length": str(len(body))}
    members = usual | {name: str(value) for name, value in headers.items()}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in members.items())
    return f"HTTP/1.1 {status} Odd\r\n{head}\r\n".encode("latin-1") + body


_OBJECT = b'{"message": "no"}'


def _oddities() -> Iterator[tuple[str, bytes]]:
    for name, body in BODIES.items():
        for status in STATUSES:
            yield f"{status} {name}", http(status, body)
    for status in (100, 102, 199, 204, 206, 301, 302, 304, 307, 308, 401, 407, 413, 429, 600, 999):
        yield f"status {status}", http(status, _OBJECT, Location="http://[::1", Retry_After="soon")
    for word in ("0", "99", "-200", "2000", "abc", ""):
        yield f"no status {word!r}", http(word, _OBJECT)
    packed = gzip.compress(_OBJECT * 99)
    yield "gzip without gzip", http(200, _OBJECT, Content_Encoding="gzip")
    yield "broken gzip", http(200, packed[:-12] + b"garbage", Content_Encoding="gzip")
    yield "gzip that ends early", http(200, packed[:20], Content_Encoding="gzip")
    yield "deflate without deflate", http(200, _OBJECT, Content_Encoding="deflate")
    yield "unknown encoding", http(200, _OBJECT, Content_Encoding="zzz")
    for size in ("-1", "+5", "5.0", "many", "99999999999999999999999", "5, 6", "99"):
        yield f"length {size}", http(200, _OBJECT, Content_Length=size)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    yield "chunks that break off", chunked + b'11\r\n{"message"'
    yield "a chunk of no size", chunked + b"zz\r\n{}\r\n0\r\n\r\n"
    yield "a chunk of negative size", chunked + b"-5\r\n{}\r\n0\r\n\r\n"
    yield "a chunk that is too long", chunked + b"1\r\n{}{}{}\r\n0\r\n\r\n"
    yield "an enormous header", head + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n{}"
    yield "many headers", head + b"X-A: a\r\n" * 40_000 + b"\r\n{}"
    yield "a header without a colon", head + b"nonsense\r\n\r\n{}"
    yield "a header with NUL", head + b"X-A: \x00\r\n\r\n{}"
    yield "a header in Latin-1", http(403, b"<p>", Content_Type="text/f\xfcr")
    yield "an unknown charset", http(200, _OBJECT, Content_Type="application/json; charset=no-such")
    yield "a charset of its own", http(403, BODIES["Latin-1 text"], Content_Type="a; charset=utf-7")
    yield "two lengths", head + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc"
    yield "odd dates", http(403, _OBJECT, Date="soon", x_amzn_RequestId="", x_amzn_ErrorType=":")
    yield "odd error headers", http(400, b"{}", x_amzn_query_error="a;b;c;d", x_amzn_errortype=";")
    yield "HTTP/0.9", b"{}"
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "HTTP/9.9", b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    yield "a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"
    yield "bytes", bytes(range(256))
    yield "nothing", b""


HTTP_ODDITIES: Mapping[str, bytes] = dict(_oddities())

_INSTEAD: tuple[Any, ...] = (
    None,
    -1,
    10**30,
    1.5,
    float("inf"),
    float("nan"),
    True,
    "",
    "soon",
    "\ud800",
    "9" * 5000,
    "0000-00-00T00:00:00Z",
    9999999,
    [],
    [5],
    [None],
    {},
    {"a": {"b": 5}},
)


def twisted(good: Any) -> Iterator[tuple[str, bytes]]:
    """Every answer that has another value in place of one member, or lacks it."""
    for path in _paths(good, ()):
        for instead in _INSTEAD:
            yield f"{path} = {str(instead)[:30]!a}", json.dumps(_with(good, path, instead)).encode()
        yield f"without {path}", json.dumps(_without(good, path)).encode()


def _paths(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    members = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, member in members:
        yield (*path, key)
        yield from _paths(member, (*path, key))


def _with(good: Any, path: tuple[str | int, ...], value: Any) -> Any:
    made = copy.deepcopy(good)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def _without(good: Any, path: tuple[str | int, ...]) -> Any:
    made = copy.deepcopy(good)
    at = made
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return made


class OddServer:
    """Answers every HTTP request with the same bytes, and closes the connection.

    Attributes:
        answer: what comes next; by a word in the request's head if there are several.
        url: of the server.
    """

    def __init__(self) -> None:
        self.answer: bytes | Mapping[str, bytes] = b""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next((int(line[15:]) for line in head.split("\r\n") if _is_length(line)), 0)
            body = await reader.readexactly(length)
            answer = self.answer
            if not isinstance(answer, bytes):
                answer = next(
                    raw for word, raw in answer.items() if word in head + body.decode("latin-1")
                )
            writer.write(answer)
            await writer.drain()
        except (OSError, EOFError):
            pass  # the client has gone
        finally:
            writer.close()


def _is_length(line: str) -> bool:
    return line.lower().startswith("content-length:")
