"""Secrets that are recognised by their shape, under any key and in any text.

Every expression is linear in the length of the text: it starts at a literal, and its repetitions
are possessive or bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Kind(StrEnum):
    """What was found: a closed set of words, shown in place of the secret."""

    AWS = "an AWS key"
    GITHUB = "a GitHub token"
    GITLAB = "a GitLab token"
    HUGGING_FACE = "a Hugging Face token"
    SLACK = "a Slack token"
    API = "an API key"
    WEBHOOK = "a webhook"
    JWT = "a JWT"
    PRIVATE_KEY = "a private key"
    LOGIN = "a login"
    SIGNATURE = "a signature"
    HTTP = "an Authorization header"
    ENCODED = "a secret in base64"
    KEY = "by its key"
    QUOTED = "quoted from a secret value"


EncodedWord = tuple[int, int, str]
"""Start and end of a word that is base64, and the text that it stands for."""

_MARK = r"\[redacted(?:: [A-Za-z0-9 ]{1,40})?\]"
_MARKER = re.compile(_MARK)
_B = r"(?<![A-Za-z0-9])"
"""Tokens begin at a word's beginning; `_` and `-` may precede."""

_TOKENS = re.compile(
    rf"""{_B}(?:
      (?P<AWS>(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{12,128}}(?![A-Za-z0-9]))
    | (?P<GITHUB>gh[pousr]_[A-Za-z0-9]{{10,}}+|github_pat_[A-Za-z0-9_]{{10,}}+)
    | (?P<GITLAB>gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct)-[A-Za-z0-9_.-]{{10,}}+)
    | (?P<HUGGING_FACE>(?:hf|api_org)_(?:[A-Za-z0-9]{{30,}}+|(?=[a-z]*+[A-Z0-9])
        (?=[A-Z0-9]*+[a-z])[A-Za-z0-9]{{16,}}+)(?![_.-]?[A-Za-z0-9]))
    | (?P<SLACK>xox[a-z]-[A-Za-z0-9-]{{10,}}+|xapp-[0-9]-[A-Za-z0-9-]{{10,}}+)
    | (?P<API>sk-(?:ant|proj|svcacct|admin|or-v1|lf|None)-
         (?=[a-z_-]{{0,40}}+[A-Z0-9])[A-Za-z0-9_-]{{10,}}+
      |  sk-(?=[A-Za-z]*+[0-9])[A-Za-z0-9]{{20,}}+
      |  AIza[A-Za-z0-9_-]{{30,}}+ | ya29\.[A-Za-z0-9_-]{{20,}}+ | GOCSPX-[A-Za-z0-9_-]{{20,}}+
      |  [srp]k_(?:live|test)_[A-Za-z0-9]{{10,}}+ | whsec_[A-Za-z0-9+/=]{{16,}}+
      |  npm_[A-Za-z0-9]{{30,}}+ | pypi-[A-Za-z0-9_-]{{40,}}+
      |  SG\.[A-Za-z0-9_-]{{16,}}+\.[A-Za-z0-9_-]{{16,}}+
      |  (?<![_-])key-[0-9a-f]{{32}}(?![0-9A-Za-z])
      |  dapi[0-9a-f]{{32}}(?:-[0-9])? | dckr_pat_[A-Za-z0-9_-]{{20,}}+
      |  (?:gsk|r8|pplx|xai|nvapi|tvly|lsv2_[ps]t|pcsk|jina|fw|tgp_v1|csk)[_-]
           (?=[A-Za-z]*+[0-9])[A-Za-z0-9]{{24,}}+(?:_[A-Za-z0-9]++)?
      |  shp(?:at|ca|pa|ss)_[a-fA-F0-9]{{32}} | dop_v1_[a-f0-9]{{64}} | hvs\.[A-Za-z0-9_-]{{20,}}+
      |  glsa_[A-Za-z0-9_]{{20,}}+ | NRAK-[A-Z0-9]{{20,}}+ | AGE-SECRET-KEY-1[A-Z0-9]{{20,}}+
      |  wandb_v1_[A-Za-z0-9_]{{20,}}+ | EAACEdEose0cBA[A-Za-z0-9]++
      |  [0-9]{{8,10}}:AA[A-Za-z0-9_-]{{30,}}+)
    | (?P<JWT>eyJ[A-Za-z0-9_-]{{8,}}+\.[A-Za-z0-9_-]{{8,}}+(?:\.[A-Za-z0-9_-]*+)*+)
    )""",
    re.VERBOSE,
)

_PEM = re.compile(
    r"-----BEGIN[ +](?:[A-Z0-9]{1,16}[ +]){0,4}PRIVATE[ +]KEY(?:[ +]BLOCK)?(?:-----)?"
    r".*?(?:-----END[ +][A-Z0-9 +]{0,60}KEY(?:[ +]BLOCK)?(?:-----)?|\Z)",
    re.DOTALL,
)
"""Up to the end of the text where it is cut off."""

_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9+/=_-])")
_AWS_TOKEN = re.compile(r"(?<![A-Za-z0-9+/=])(?:IQoJ|FQoG|FwoG)[A-Za-z0-9+/=%]{60,}+")

_WEBHOOK = re.compile(
    r"(hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/"
    r"|discord(?:app)?\.com/api/(?:v[0-9]{1,2}/)?webhooks/"
    r"|webhook\.office\.com/(?:webhookb2/)?|api\.telegram\.org/bot)(?!"
    + _MARK
    + r")(?P<WEBHOOK>[^\s\"'<>\\]+)"
)

_LOGIN = re.compile(
    r"(?:(?::|%3[Aa])(?://|\\/\\/|%2[Ff]%2[Ff])|(?<![\w:/])//)(?:"
    r"(?P<LOGIN>[^\s/?#\"'<>@\\%]{0,512}+(?:[@%\\][^\s/?#\"'<>@\\%]{0,512}+){0,16})"
    r"|(?P<WIDE>[^\s:/?#@\"'<>\[]{0,64}:(?![0-9]{1,5}(?:[/?#]|$))[^\s\"'<>@]{1,128}))"
    r"(?:@|%40)(?=[A-Za-z0-9\[_$%{])(?!sha256)"
)
"""User and password up to the last `@` of the authority; the wide form is for passwords with
characters that should have been escaped."""

_NETRC = re.compile(
    r"\bmachine\s{1,20}\S{1,200}\s{1,20}login\s{1,20}(?P<LOGIN>\S{1,200}\s{1,20}password\s{1,20}\S++)"
)

_LOGIN_ALONE = re.compile(
    r"(?:(?<![^\s\"'=(])(?P<LOGIN>[\w.%+-]{1,64}+:(?![0-9.]{1,20}@)[^\s:@/\"']{4,128}+)"
    r"@(?=(?:[\w-]{1,63}\.[\w.-]{1,200}|localhost)(?:[:/]|$|[\s\"',)]))"
    r"|oracle:thin:(?P<ORACLE>[^\s/@]{1,64}/[^\s@]{1,128})@)"
)
"""User and password without a scheme before."""

_PLACEHOLDER = re.compile(
    r"\$\{?\w{1,80}\}?|\$\([^()]{1,80}\)|%\w{1,80}%|\{\{[^{}]{0,120}\}\}|\{[A-Za-z_]{1,80}\}"
    r"|<[A-Za-z_ -]{1,80}>|\*+|x{3,}|X{3,}|\.{3}"
    r"|\[(?i:your[a-z_ ]{0,40}|redacted|hidden|masked|removed|filtered|secret)\]"
)
"""What stands for a secret: a variable, a template, asterisks."""

_QUERY = re.compile(
    r"(?P<before>[?&;]|%3F|%26|%253F|%2526|\\u0026|(?<![A-Za-z0-9]))"
    r"(?P<name>X-(?:Amz|Goog|Oss|Tos|Obs|Cos)-(?:Signature|Credential|Security-Token)"
    r"|(?:AWS|OSS)AccessKeyId|GoogleAccessId|Key-Pair-Id|Signature|sig|Policy|code|hmac)"
    r"(?P<sep>=|%3D|%253D|\\u003d)"
    r"(?!"
    + _MARK
    + r")(?P<SIGNATURE>(?:(?!%26|%2526|\\u0026|\\u0022|&amp;)[^\s&\"'<>#;\\|`)\]},])++)",
    re.IGNORECASE,
)
_ONLY_IN_A_QUERY = {"signature", "sig", "policy", "code", "hmac", "key-pair-id"}

_HTTP = re.compile(
    r"(?<![A-Za-z])(?P<scheme>bearer|basic|AWS4-HMAC-SHA256)(?:[ \t]++|%20|\+)"
    r"(?P<HTTP>[A-Za-z0-9._~+/=:%-]{6,}+)",
    re.IGNORECASE,
)
_REQUEST_SIGNATURE = re.compile(r"\bSignature=(?P<SIGNATURE>[0-9a-fA-F]{40,}+)", re.IGNORECASE)

_PART_OF_A_REQUEST = re.compile(
    r"(?:security[-_]?token|\bsignature(?:provided)?)(?!\])\W{1,6}(?P<SIGNATURE>[A-Za-z0-9+/=%_-]{16,}+)",
    re.IGNORECASE,
)
"""Parts of a signed request that a proxy or an error message may repeat."""

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{24,}+={0,2}")
_DEEPEST = 3
_LONG = 20
"""A word of this length that may be a secret is one."""

_LONG_WORD = re.compile(r"[A-Za-z0-9_.+/=%-]{14}")
"""No token, and nothing that is searched for base64, is shorter."""
_OF_A_REQUEST = re.compile(r"signature|security|bearer|basic|AWS4", re.IGNORECASE)


def spans(
    text: str, *, depth: int = 0, words: Sequence[EncodedWord] | None = None
) -> Iterator[tuple[int, int, Kind]]:
    """Start, end and kind of every secret; they may overlap.

    Nearly all texts have none, so each group of expressions is preceded by a quick look for what
    all of them need.

    Args:
        text: to be searched.
        depth: how often it has been decoded.
        words: its `base64_texts`; None: they are looked for.
    """
    if _LONG_WORD.search(text) is not None:
        yield from _tokens(text)
        if depth < _DEEPEST:
            yield from _encoded(base64_texts(text) if words is None else words, depth)
    if "PRIVATE" in text:
        yield from ((*found.span(), Kind.PRIVATE_KEY) for found in _PEM.finditer(text))
    yield from _in_urls(text)
    if _OF_A_REQUEST.search(text) is not None:
        yield from _in_requests(text)


def is_marker(text: str) -> bool:
    """Whether a text stands where a secret was replaced."""
    return _MARKER.fullmatch(text) is not None


def base64_texts(text: str) -> Iterator[EncodedWord]:
    """Start, end and meaning of every word that is base64 of a text."""
    for found in _BASE64.finditer(text):
        inner = _decoded(found[0])
        if inner is not None:
            yield (*found.span(), inner)


def is_placeholder(text: str) -> bool:
    """Whether a text only stands for a secret."""
    return _PLACEHOLDER.fullmatch(text) is not None


def starts_with_placeholder(text: str, at: int) -> bool:
    """Whether a word of the text only stands for a secret."""
    found = _PLACEHOLDER.match(text, at)
    return found is not None and not text[found.end() : found.end() + 1].isalnum()


def _tokens(text: str) -> Iterator[tuple[int, int, Kind]]:
    aws = False
    for found in _TOKENS.finditer(text):
        kind = Kind[found.lastgroup or "API"]
        aws = aws or kind is Kind.AWS
        yield (*found.span(), kind)
    yield from ((*found.span(), Kind.AWS) for found in _AWS_TOKEN.finditer(text))
    if aws:
        for found in _AWS_SECRET.finditer(text):
            word = found[0]
            if not (word.islower() or word.isupper() or word.isalpha()):
                yield (*found.span(), Kind.AWS)


def _in_urls(text: str) -> Iterator[tuple[int, int, Kind]]:
    if "hook" in text or "telegram" in text:
        for found in _WEBHOOK.finditer(text):
            yield (*found.span("WEBHOOK"), Kind.WEBHOOK)
    if "machine" in text:
        for found in _NETRC.finditer(text):
            yield (*found.span("LOGIN"), Kind.LOGIN)
    if "@" in text or "%40" in text:
        yield from _logins(text)
    if "=" in text or "3D" in text or "3d" in text:
        yield from _in_queries(text)


def _logins(text: str) -> Iterator[tuple[int, int, Kind]]:
    for found in _LOGIN_ALONE.finditer(text):
        yield (*found.span(found.lastgroup or "LOGIN"), Kind.LOGIN)
    for found in _LOGIN.finditer(text):
        group = "LOGIN" if found["LOGIN"] is not None else "WIDE"
        login = unquote(found[group])
        user, colon, password = login.partition(":")
        if colon:
            alone = not password and len(user) >= _LONG // 2 and any(map(str.isdigit, user))
            stands_for = is_placeholder(password) and is_placeholder(user or "*")
            if alone or (password and not stands_for):
                yield (*found.span(group), Kind.LOGIN)
        elif len(user) >= _LONG and any(sign.isdigit() for sign in user) and "." not in user:
            yield (*found.span(group), Kind.LOGIN)


def _in_queries(text: str) -> Iterator[tuple[int, int, Kind]]:
    for found in _QUERY.finditer(text):
        name, value = found["name"].lower(), found["SIGNATURE"]
        if (name in _ONLY_IN_A_QUERY and not found["before"]) or is_placeholder(value):
            continue
        if name in {"code", "policy", "hmac"} and len(value) < _LONG:
            continue
        yield (*found.span("SIGNATURE"), Kind.SIGNATURE)


def _in_requests(text: str) -> Iterator[tuple[int, int, Kind]]:
    for found in _REQUEST_SIGNATURE.finditer(text):
        yield (*found.span("SIGNATURE"), Kind.SIGNATURE)
    for found in _PART_OF_A_REQUEST.finditer(text):
        if any(sign.isdigit() for sign in found["SIGNATURE"]):
            yield (*found.span("SIGNATURE"), Kind.SIGNATURE)
    for found in _HTTP.finditer(text):
        word = found["HTTP"]
        match found["scheme"].lower():
            case "basic":
                secret = ":" in (_decoded(word.rstrip(":.")) or "")
            case "bearer":
                secret = len(word) >= _LONG or not (
                    word.isalpha() and (word.islower() or word.istitle())
                )
            case _:
                secret = True
        if secret:
            yield (*found.span("HTTP"), Kind.HTTP)


def _encoded(words: Iterable[EncodedWord], depth: int) -> Iterator[tuple[int, int, Kind]]:
    """Base64 of a text that has a secret: a docker login, a service account, a kubeconfig."""
    for start, end, inner in words:
        if next(spans(inner, depth=depth + 1), None) is not None:
            yield start, end, Kind.ENCODED


def _decoded(word: str) -> str | None:
    """The text that a base64 word stands for; None if it is none."""
    plain = word.rstrip("=").translate(_STANDARD)
    try:
        text = base64.b64decode(plain[: len(plain) - (len(plain) % 4 == 1)] + "==").decode()
    except (binascii.Error, ValueError):
        return None
    return (
        text if text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable() else None
    )


_STANDARD = str.maketrans("-_", "+/")
_LINES = str.maketrans("", "", "\t\r\n")
