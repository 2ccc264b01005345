"""Redaction of texts: known secrets in any form, patterns of people's own, and any length."""

from __future__ import annotations

import base64
import html
import json
import shlex
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from daemon.redaction import redactor
from daemon.redaction.keys import hides
from daemon.redaction.redactor import Redactor, without_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = [
    "plain-secret-1",
    'quo"te and \\ back',
    'it\'s & <more> "odd"',
    "sl/ash+plus=equals%20",
    "pässwörd-ü-漢字",
    "tab\tand\nline-of-its-own",
    "$dollar`tick!bang*star",
    "semi;colon, comma {brace}",
]
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON with its characters": lambda secret: json.dumps(secret, ensure_ascii=False),
    "JSON in JSON": lambda secret: json.dumps(json.dumps({"x": secret})),
    "JSON of PHP": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "JSON of Go": lambda secret: (
        json.dumps(secret).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    ),
    "Python literal": repr,
    "Python literal in ASCII": ascii,
    "Python literal of a dict": lambda secret: repr({"x": secret}),
    "Python bytes": lambda secret: repr(secret.encode()),
    "shell quotes": shlex.quote,
    "shell backslashes": lambda secret: "".join(
        sign if sign.isalnum() or sign in "-_/.,:=+@%" or ord(sign) > 127 else f"\\{sign}"
        for sign in secret
    ),
    "shell double quotes": lambda secret: '"{}"'.format(
        "".join(f"\\{sign}" if sign in '\\"$`!' else sign for sign in secret)
    ),
    "shell single quotes": lambda secret: "'{}'".format(secret.replace("'", "'\\''")),
    "URL": lambda secret: quote(secret, safe=""),
    "URL path": quote,
    "URL form": quote_plus,
    "URL in lower case": lambda secret: (
        quote(secret, safe="") if "%" not in quote(secret, safe="") else _lower(secret)
    ),
    "URL twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "HTML": html.escape,
    "HTML text": lambda secret: html.escape(secret, quote=False),
    "HTML of Jinja": lambda secret: (
        html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    ),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64 of a login": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
}


def _lower(secret: str) -> str:
    parts = quote(secret, safe="").split("%")
    return parts[0] + "".join(f"%{part[:2].lower()}{part[2:]}" for part in parts[1:])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_known_secret_in_another_form(secret: str, form: str) -> None:
    written = FORMS[form](secret)
    text = f"AlgorithmError: it failed ({written}), exit code 1"
    cleared = Redactor().text(text, [secret]).text
    bare = written.strip("\"'")
    assert bare not in cleared
    assert secret not in cleared
    assert cleared.startswith("AlgorithmError: it failed (")
    assert cleared.endswith("exit code 1")
    for part in ("plain-sec", "quo", "more", "plus=eq", "漢字", "of-its-own", "star", "colon"):
        assert not (part in secret and part in cleared)


@pytest.mark.parametrize("left", [4, 5, 8, 12])
@pytest.mark.parametrize("form", ["as it is", "JSON", "shell single quotes", "URL", "base64"])
def test_the_beginning_of_a_secret_at_the_end_of_a_text(form: str, left: int) -> None:
    secret = "k9'Zq/Wm\"3x Lp7"
    written = FORMS[form](secret).strip("\"'")[:left]
    padded = f"{'x ' * 600}"[: 1024 - left] + written
    assert len(padded) == 1024
    cleared = Redactor().text(padded, [secret], cut=True).text
    assert cleared.endswith((" [redacted]", "x[redacted]"))


@pytest.mark.parametrize("mark", ["...", "…", '..."', "' ...", " [truncated]"])
def test_a_secret_before_the_mark_of_a_cut(mark: str) -> None:
    cleared = Redactor().text(f"python train.py {'k9Zq-Wm3x'[:6]}{mark}", ["k9Zq-Wm3x"], cut=True)
    assert "k9Zq" not in cleared.text


def test_a_word_at_the_end_is_not_the_beginning_of_a_secret_in_a_whole_text() -> None:
    assert Redactor().text("model: gpt-", ["gpt-x-secret"]).text == "model: gpt-"


def test_lines_of_a_secret() -> None:
    secret = "line-one-of-it\nline-two-of-it"
    assert Redactor().text("a: line-two-of-it", [secret]).text == "a: [redacted]"


def test_a_marker_does_not_let_a_secret_pass() -> None:
    for text in (
        "[redacted password=hunter22]",
        "[redacted: a key] password=hunter22",
        "password=[redactedhunter22]",
    ):
        assert "hunter22" not in Redactor().value("note", text).text


def test_what_was_found_is_said_in_a_closed_set_of_words() -> None:
    result = Redactor().text("https://me:hunter22@host/x password=hunter22 sig: Bearer a1b2c3d4")
    assert result.what == "a login, an Authorization header, 1 secret"
    assert "hunter22" in " ".join(result.secrets)


@pytest.mark.parametrize(
    ("key", "patterns"),
    [
        ("team-pin", ("*team_pin*",)),
        ("teamPin", ("*team_pin*",)),
        ("TEAM.PIN", ("*team-pin*",)),
        ("team pin", ("team?pin",)),
        ("my_team_pin_2", ("*teampin*",)),
        ("pad_token", ("pad-token",)),
        ("Tokenizer", ("tokenizer",)),
    ],
)
def test_patterns_of_ones_own_in_any_spelling(key: str, patterns: tuple[str, ...]) -> None:
    assert hides(key, "hunter22", patterns)


def test_patterns_of_ones_own_leave_the_built_in_rule() -> None:
    assert hides("wandb-api-key", "hunter22", ("*team_pin*",))
    assert not hides("lr", "0.1", ("*team_pin*",))


def test_nothing_is_no_secret() -> None:
    for value in ("", '""', "null", "None", "true", "False", "'no'"):
        assert not hides("password", value)


def test_own_texts_that_explain_keys_stay() -> None:
    for text in (
        "target.auth.password: must not be empty",
        "AWS credentials: the token file /var/run/secrets/token is missing",
        "check queue.url and the account: the security token is expired",
    ):
        assert without_shapes(text) == text


HOSTILE = [
    *("name=a value=", "name: a, value: ", "password: a ", "cookie= ", "key=b'", "--a:"),
    *("password ", "token", "a:b@", '"a:bbbb@', "name: a\nvalue: ", "mysql ", "docker login ", "@"),
    *("wandb login ", "password: |\n a\n", "key=a(", "auth=x('", "API key provided: ", "\\u00"),
    *("a", "a=", "a.b-c", "::", '"', "\\", " ", "[", '{"a":', "[{", "%22", "&quot;", "\\u0026"),
    *("password=", 'password="', "password=a,b", "password: x\n", "api key: ", "token=(", "key=["),
    *(
        'k="\\',
        "password%3D",
        "('a',",
        "<password>",
        "--a ",
        "--token=",
        "cookie=a;",
        "key=",
        "a::b",
    ),
    *("://", "://a:b", "://u:p@", "//", "&sig=", "%26sig%3D", "machine ", "Bearer ", "-----BEGIN "),
    *("eyJ", "eyJaaaaaaaaa.", "AKIA", "xoxb-", "hf_", "glpat-", "sk-proj-", "SG.aaaaaaaaaaaaaaaa"),
    *(
        "QUFB",
        "0123456789abcdef",
        "-----BEGIN RSA PRI" + "VATE KEY-----",
        "pwd=/",
        "security_token ",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_time_grows_no_faster_than_the_text(unit: str) -> None:
    """A text of 128 KiB takes a fraction of a second; in quadratic time it would take minutes."""
    text = unit * (2**17 // len(unit))
    begin = time.process_time()
    for tail in ("", "x1Y2\n"):
        Redactor().text(text + tail, ["hunter22", unit * 50], cut=True)
    assert time.process_time() - begin < 10


def test_a_text_is_treated_alike_when_it_comes_again() -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ"
    for text in ("ml.m5.large", f"token {token}", "password=hunter2hunter2"):
        results = [Redactor().text(text) for _ in range(3)]
        assert results[0] == results[1] == results[2]
        assert len({without_shapes(text) for _ in range(3)}) == 1
    # patterns of people's own are not those of others
    assert Redactor(("hunt",)).text("hunt=down-the-fox").kinds
    assert not Redactor(("other",)).text("hunt=down-the-fox").kinds
    assert Redactor(("hunt",)).text("hunt=down-the-fox").kinds


def test_what_is_remembered_has_a_bound_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = redactor._Harmless()
    monkeypatch.setattr(redactor, "_SHAPELESS", remembered)
    without_shapes("sk-ant-abcdefghij0123456789")
    without_shapes("x" * 201)
    assert remembered._texts == set()
    for number in range(5000):
        without_shapes(f"job-{number}")
        assert len(remembered._texts) <= 2000
    assert "job-4999" in remembered
