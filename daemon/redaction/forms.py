"""The forms in which a known secret appears in a text."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from urllib.parse import quote, quote_plus

_SHORTEST_IN_BASE64 = 6
"""Of a shorter one, too little of its base64 is its own."""
_SHELL = re.compile(r"([^\w@%+=:,./-])", re.ASCII)
_ESCAPED = re.compile(r"%[0-9A-F]{2}")


def secret_forms(secret: str) -> frozenset[str]:
    """The secret itself, and as it looks in JSON, in JSON inside JSON, in a Python literal, in a
    URL, in a shell's command line, in HTML and in base64.
    """
    inner = json.dumps(secret)[1:-1]
    readable = json.dumps(secret, ensure_ascii=False)[1:-1]
    data = secret.encode(errors="surrogatepass")
    in_urls = {quote(data, safe=""), quote(data), quote_plus(data)}
    in_urls |= {_ESCAPED.sub(lambda found: found[0].lower(), form) for form in in_urls}
    in_urls.add(quote(quote(data, safe=""), safe=""))
    forms = {
        secret,
        inner,
        readable,
        inner.replace("/", "\\/"),
        _as_go_writes(inner),
        _as_go_writes(readable),
        json.dumps(inner)[1:-1],
        json.dumps(readable, ensure_ascii=False)[1:-1],
        *_in_literals(secret),
        *in_urls,
        shlex.quote(secret).removeprefix("'").removesuffix("'"),
        secret.replace("'", "'\\''"),
        re.sub(r'([\\"$`!])', r"\\\1", secret),
        _SHELL.sub(r"\\\1", secret),
        html.escape(secret),
        html.escape(secret, quote=False),
        html.escape(secret).replace("&#x27;", "&#39;"),
        html.escape(secret).replace("&#x27;", "&apos;"),
        html.escape(secret).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    }
    return frozenset(form for form in forms | _in_base64(secret) if form)


def _in_literals(secret: str) -> set[str]:
    """In Python's quotes, which depend on the quotes inside, alone and in bytes."""
    forms = {repr(secret)[1:-1], ascii(secret)[1:-1]}
    forms |= {repr(f"{secret}'\"")[1:-1].removesuffix("\\'\""), repr(f"{secret}'")[1:-2]}
    forms.add(repr(secret.encode(errors="surrogatepass"))[2:-1])
    return forms | {repr(repr(secret)[1:-1])[1:-1]}


def _as_go_writes(text: str) -> str:
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _in_base64(secret: str) -> set[str]:
    """Alone, and the part that is the same whatever stands before and behind it (`user:secret`)."""
    data = secret.encode(errors="surrogatepass")
    if len(data) < _SHORTEST_IN_BASE64:
        return set()
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        first = -(-before * 8 // 6)
        last = (before + len(data)) * 8 // 6
        forms.add(encoded[first:last])
    forms.add(base64.b64encode(data).decode())
    return forms | {form.replace("+", "-").replace("/", "_") for form in forms}
