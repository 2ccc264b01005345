"""Which keys hold secrets.

A key is compared by its words: `wandbApiKey`, `wandb-api-key`, `WANDB_API_KEY` and `wandb.api key`
are the same, and so is `wandbapikey`. Compounds are read as in English: `auth_token` is a token,
`token_count` is a count.
"""

from __future__ import annotations

import re
import unicodedata
from fnmatch import translate
from functools import lru_cache
from itertools import pairwise

SECRET_KEYS = (
    "*password*",
    "*passwd*",
    "*secret*",
    "token",
    "*_token",
    "*-token",
    "*api_key*",
    "*apikey*",
    "*credential*",
    "*private_key*",
)
"""The default patterns of ``jobs.redact``. They are matched besides the built-in rule."""

_LONGEST_KEY = 512
"""Of a longer key only the end is read, where its head is."""


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IN_A_WORD = re.compile(
    "password|passwd|passphrase|passwort|kennwort|contrasena|motdepasse|credential"
    "|secret(?!ar|ion|e[ds]?$|ing$)|(?:api|access|private|auth|ssh|signing|encryption)key"
    "|connectionstring|(?:access|auth|api|bearer|refresh|session|security)token(?!i[sz])"
)
"""Unmistakable wherever they stand in a word."""
_IN_A_KEY = re.compile(
    "(?<![a-z])(?:pass_(?:word|phrase|code)|conn(?:ection)?_str(?:ing)?|mot_de_passe"
    "|(?:api|access|private|auth|ssh|signing|encryption|account|master)_keys?"
    "|(?:access|auth|api|bearer|refresh|session|security)_tokens?"
    "|(?:auth|authorization)_header|session_cookie)(?![a-z])"
)
"""Unmistakable wherever they stand in a key."""

_ALONE = _words_of(
    "apikey auth authorisation authorization authtoken bearer cookie cookies cred credential"
    " credentials creds dsn jsessionid jwt keytab mnemonic netrc oauth otp passcode passphrase"
    " passwd password pat pem phpsessid ppk pwd sas secret secrets sessionid token totp webhook"
    " webhooks"
)
"""Secret as the last word of a key (its head)."""

_SERVICES = _words_of(
    "ado ai21 aleph algolia alpaca anthropic anyscale arize atlassian auth0 aws azure bedrock"
    " binance bing bitbucket cerebras circleci clearml cloudflare codecov cohere comet confluent"
    " cosmos cosmosdb dagshub databricks datadog deepgram deepinfra deepseek devops digitalocean"
    " discord docker dockerhub dropbox elastic elevenlabs figma firebase fireworks gcp gemini gh"
    " github gitlab google grafana groq heroku hf honeycomb hub hugging huggingface jfrog jina"
    " jira kaggle labelbox langchain langfuse langsmith llama mailchimp mailgun mapbox minio"
    " mistral mlflow mongo mongodb mysql nebius neptune newrelic ngc npm nvidia okta ollama openai"
    " openrouter openweather pagerduty perplexity pg pinecone postgres postgresql pypi qdrant"
    " redis replicate roboflow rollbar runpod sagemaker sambanova sendgrid sentry serpapi serper"
    " slack snowflake snyk sonar splunk stripe supabase tavily telegram twilio twitter unsplash"
    " vault vercel wandb watsonx weaviate xai zilliz"
)
_OF_A_KEY = _SERVICES | _words_of(
    "access api auth encryption gpg hmac jwt master oauth pgp private rsa secret signing ssh"
)
"""`<one of these>_key` is a secret."""
_PERHAPS_OF_A_KEY = _words_of(
    "account admin app application brave cert certificate client consumer deploy deployment dev"
    " developer exa integration licence license lightning linear login maps modal palm personal"
    " sdk segment serial server service session shared ssl stability storage subscription tls"
    " together voyage weights write"
)
"""`<one of these>_key` is a secret unless its value may be the name of a column."""
_OF_A_TOKEN = _SERVICES | _words_of(
    "access account admin api app application auth bearer bot ci client consumer csrf deploy"
    " deployment dev developer git id identity integration jwt login oauth personal private push"
    " refresh registry sas secret security service session tracking upload user xsrf"
)
"""`<one of these>_token` is a secret."""
_OF_A_PASS = _SERVICES | _words_of(
    "admin auth basic broker client database db email ftp http https imap jdbc key keystore ldap"
    " login mail mq my proxy rabbitmq root service sftp smtp sql ssh sudo truststore user username"
)
"""`<one of these>_pass` is a password; `forward_pass` is none."""

_TOKEN_VOCABULARY = _words_of(
    "additional answer assistant audio average avg begin beginning blank bos box by cls code"
    " concept content context control cost count decoder document dummy each encoder end eoc eod"
    " eoh eom eos eot every extra fill first forced frame fusion image img initializer input"
    " instance instruction internal is label lang language last latent learned like loss mask max"
    " mean memory min mode modifier n new next no null num number of output pad padding patch per"
    " placeholder pool pooling pos position predict prefix previous prompt pseudo query question"
    " register response role seg sentence sentinel sep separator single slot sos sot source space"
    " spatial special speech start stop sub subword suffix summary system target task text think"
    " time trigger unk unknown usage valid video vision visual vocab vocabulary word"
)
"""`<one of these>_token` is of a language model's vocabulary, or a quantity."""
_KEY_VOCABULARY = _words_of(
    "answer attention audio batch bucket cache caption class cluster column conf config content"
    " context data dataset date default dict distribution document embedding entity env eval event"
    " example feature field file foreign frame group hash id image index input instruction item"
    " join json kms label lang language lookup loss map mask merge message messages meta metadata"
    " metric minor model monitor name natural object ontology optimizer order ordering output"
    " param parameter partition pixel position primary prompt property pub public query question"
    " range ray record relation reply response result route row sample schema score seed sequence"
    " shard sort source split state step store surrogate system tag target task text time"
    " timestamp train transcript tuple type unique validation value video weight x y"
)
"""`<one of these>_key` names a column, an index or a member."""

_ABOUT = _words_of(
    "age algorithm alias arn attribute attributes class classification column columns cost count"
    " counts dim dimension dims dir directory domain dropout embedding embeddings enabled endpoint"
    " endpoints error errors exists expiration expires expiry field file filename folder format"
    " function id ids index indices label labels len length level limit limits location loss mask"
    " max merging method min mixing mode name names num number path paths pattern policy position"
    " positions prefix probability provider pruning rate ratio region required rotation sampling"
    " schema scheme size store strategy style suffix timeout ttl type types uri url validation"
    " version weight weights"
)
"""`token_<one of these>` says something about a token and is none."""
_QUANTITIES = _words_of(
    "age attempts count days dim expiry hours interval len length level limit loss max mean min"
    " minutes n num number per prob probability rate ratio seconds size timeout total ttl weight"
)
"""A number under a key with one of these is a quantity."""
_HARMLESS = re.compile(
    r"secretar(?:y|ies|iat)|secretions?|secretsmanager|passwordless|credentialing"
)
"""Words that only contain a secret one."""

_SCHEMES = _words_of(
    "anonymous basic bearer digest gssapi iam iam_role instance_profile jwt kerberos ldap mtls ntlm"
    " oauth oauth2 oidc password saml sigv4 simple sso tls token"
)
"""Kinds of authentication, as the value of `auth`."""

_HEADS = _words_of(
    "token tokens key keys pass pw pwd sk phrase signature id code codes url uri header value"
    " string json"
)
"""Of keys that hide some values; see `_built_in`."""
_ENDS = ("token", "key", "pat", "pass", "pw", "pwd")
"""Of such heads; see `_is_joined`."""

_RANDOM = "x7Kq2mZ9vB4nT6wL"

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|[A-Z]")
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?([eE][-+]?[0-9]+)?%?")
_NOTHING = _words_of("true false null none yes no on off nil undefined n/a na nan")
_SPECIAL_TOKEN = re.compile(
    r"<\|?[^<>\s]{1,40}\|?>|\[[A-Za-z0-9_ ]{1,30}\]|<[/s]{1,2}>|\{\{?[a-z_ ]{1,30}\}\}?|\W{0,8}"
)
"""How special tokens of language models are written: `<pad>`, `</s>`, `<|im_end|>`, `[MASK]`."""

_ANGLED = re.compile(r"<\|?[A-Za-z_/ ]{1,30}\|?>")
"""No credential looks like this: the `user_token` of a chat template, `<|user|>`."""
_NAME = re.compile(r"[a-z]{1,24}(_[a-z]{1,24}){0,4}")
_SEGMENT = re.compile(r"[A-Za-z0-9+/]+=*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_LONG = 16
_LONG_HEX = 32
_MIXED = 4
"""Changes between letters of either case and digits in a word that nobody chose."""
_CLASSES = str.maketrans(
    {
        **dict.fromkeys("abcdefghijklmnopqrstuvwxyz", "a"),
        **dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A"),
        **dict.fromkeys("0123456789", "0"),
    }
)


def hides(  # noqa: PLR0911 - one for each part of the rule
    key: str, value: str, patterns: tuple[str, ...] = SECRET_KEYS
) -> bool:
    """Whether the value under a key is a secret by its key.

    Args:
        key: in any spelling.
        value: as text. Nothing (`null`, `false`, an empty text) is never secret; a quantity or a
            special token of a language model is not under a key that can also name one.
        patterns: those of ``jobs.redact``. Besides them the built-in rule holds; without any,
            nothing is secret.
    """
    key = key[-_LONGEST_KEY:]
    if not patterns or _never_hides(key, patterns) or is_nothing(value):
        return False
    if _named(key, patterns):
        return True
    words = key_words(key)
    if not words:
        return _matches(key, patterns)
    if _is_quantity(words, value):
        return False
    if _is_unmistakable(words):
        return True
    if _of_a_vocabulary(words, value):
        return False
    return _built_in(words, value) or _matches(key, patterns)


@lru_cache(maxsize=4096)
def _never_hides(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether `hides` is false for every value, as it is for nearly all keys."""
    if _named(key, patterns) or _matches(key, patterns):
        return False
    words = key_words(key)
    if not words:
        return True
    head = words[-1]
    return not (
        _is_unmistakable(words)
        or head in _HEADS
        or head in _ALONE
        or head.endswith(_ENDS)
        or _is_turned_round(words)
    )


@lru_cache(maxsize=4096)
def may_hide(key: str, patterns: tuple[str, ...] = SECRET_KEYS) -> bool:
    """Whether any value under a key is a secret."""
    return hides(key, _RANDOM, patterns)


def is_unmistakable(key: str) -> bool:
    """Whether all that a key can hold is secret, whatever it is."""
    words = key_words(key[-_LONGEST_KEY:])
    return bool(words) and _is_unmistakable(words)


def is_nothing(value: str) -> bool:
    """Whether a value says that there is none, or only yes or no."""
    bare = value.strip(" \t\r\n\"'")
    return not bare or bare.lower() in _NOTHING


@lru_cache(maxsize=4096)
def key_words(key: str) -> tuple[str, ...]:
    """The words of a key in lower case, without digits and accents."""
    plain = unicodedata.normalize("NFKD", key)
    return tuple(
        word.lower() for word in _PART.findall("".join(c for c in plain if not _is_mark(c)))
    )


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in {"Mn", "Cf"}


def looks_random(value: str) -> bool:
    """Whether a value has a part that nobody chose: 16 or more letters and digits in disorder, or
    32 or more hexadecimal digits. UUIDs are not counted: nearly all of them are identifiers.
    """
    bare = value.strip(" \t\r\n\"'")
    if _UUID.fullmatch(bare) or any(sign in bare for sign in " :\n"):
        return False
    return any(_is_random(segment) for segment in _SEGMENT.findall(bare))


def _is_random(segment: str) -> bool:
    if len(segment) < _LONG:
        return False
    if _HEX.fullmatch(segment):
        return len(segment) >= _LONG_HEX
    if segment.count("/") > 1 and segment.islower():
        return False
    classes = segment.translate(_CLASSES)
    changes = sum(1 for one, other in pairwise(classes) if one != other)
    return changes >= _MIXED and "0" in classes and classes.strip("0") != ""


def _is_unmistakable(words: tuple[str, ...]) -> bool:
    if words[-1] in {"key", "keys"} and ("public" in words or "pub" in words):
        return False
    return (
        any(_IN_A_WORD.search(word) and not _HARMLESS.fullmatch(word) for word in words)
        or _IN_A_KEY.search("_".join(words)) is not None
    )


def _built_in(words: tuple[str, ...], value: str) -> bool:  # noqa: C901, PLR0911 - a rule for each head
    head, before = words[-1], words[-2] if len(words) > 1 else ""
    match head:
        case "token":
            return not _looks_special(value) or (
                _owned(words, _OF_A_TOKEN) and not _ANGLED.fullmatch(value.strip("\"' "))
            )
        case "tokens":
            return before in _OF_A_TOKEN - {"user"}
        case "key" | "keys":
            return "public" not in words and (
                _owned(words, _OF_A_KEY)
                or (before in _PERHAPS_OF_A_KEY and not _NAME.fullmatch(value.strip("\"' ")))
                or (before not in _KEY_VOCABULARY and looks_random(value))
            )
        case "pass" | "pw":
            return _owned(words, _OF_A_PASS) or (not before and not _NUMBER.fullmatch(value))
        case "pwd":
            return not (len(words) == 1 and value.startswith("/"))
        case "sk":
            return before in _SERVICES
        case "phrase":
            return before == "seed"
        case "signature":
            return looks_random(value)
        case "id":
            return before == "session" and "spark" not in words
        case "code" | "codes":
            return before in {"auth", "backup", "mfa", "otp", "pin", "recovery", "totp"}
        case "url" | "uri":
            return before in {"webhook", "webhooks", "sas", "dsn"}
        case "header" | "value" | "string" | "json":
            return before in _ALONE and before != "auth"
    return head in _ALONE or _is_joined(head, value) or _is_turned_round(words)


def _owned(words: tuple[str, ...], owners: frozenset[str]) -> bool:
    """Whether the word before the head is an owner, or the two before it: `open ai key`."""
    return words[-2:-1] != () and (words[-2] in owners or "".join(words[-3:-1]) in owners)


def _is_joined(word: str, value: str) -> bool:
    """`hftoken`, `openaikey`, `dbpwd`, `githubpat`."""
    if word.endswith("token") and not _looks_special(value):
        return True
    if word.endswith("key") and looks_random(value):
        return word.removesuffix("key") not in _KEY_VOCABULARY
    for end, owners in (
        ("token", _OF_A_TOKEN),
        ("key", _OF_A_KEY | _PERHAPS_OF_A_KEY),
        ("pat", _SERVICES),
        ("pass", _OF_A_PASS),
        ("pw", _OF_A_PASS),
    ):
        if word.endswith(end):
            return word.removesuffix(end) in owners
    return word.endswith("pwd")


def _is_turned_round(words: tuple[str, ...]) -> bool:
    """`token_github`, `hf_token_read`: a word that tells whose it is, before or after."""
    if words[-2:-1] == ("pass",) and words[-1] in _OF_A_PASS:
        return True
    for at, word in enumerate(words[:-1]):
        if word in {"token", "key", "pat", "pwd"} and words[-1] not in _ABOUT:
            if words[at + 1] in _SERVICES or word == "pwd":
                return True
            if at and words[at - 1] in (_OF_A_TOKEN if word == "token" else _SERVICES):
                return True
    return False


def _is_quantity(words: tuple[str, ...], value: str) -> bool:
    return not _QUANTITIES.isdisjoint(words) and _NUMBER.fullmatch(value.strip("\"' ")) is not None


def _of_a_vocabulary(words: tuple[str, ...], value: str) -> bool:
    """Whether a key names no credential in spite of a secret word in it: `pad_token`,
    `loss_per_token`, `token_count`, `secretary`.
    """
    if any(_HARMLESS.fullmatch(word) for word in words):
        return _ALONE.isdisjoint(words)
    if words[-1] == "auth":
        return value.strip("\"' ").lower() in _SCHEMES
    if words[-1] == "token":
        before = words[-2] if len(words) > 1 else ""
        if before in _OF_A_TOKEN:
            return _ANGLED.fullmatch(value.strip("\"' ")) is not None
        return before in _TOKEN_VOCABULARY or (before != "" and _looks_special(value))
    if words[-1].endswith("token"):
        return words[-1].removesuffix("token") in _TOKEN_VOCABULARY
    return False


def _looks_special(value: str) -> bool:
    bare = value.strip(" \"'")
    return _NUMBER.fullmatch(bare) is not None or _SPECIAL_TOKEN.fullmatch(bare) is not None


@lru_cache(maxsize=4096)
def _named(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether somebody's own pattern without wildcards names the key."""
    squashed = _squashed(key)
    return any(
        squashed == _squashed(pattern)
        for pattern in patterns
        if pattern not in SECRET_KEYS and not any(sign in pattern for sign in "*?[")
    )


@lru_cache(maxsize=4096)
def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    as_written, squashed = _any_of(patterns)
    return (
        as_written.match(key.casefold()) is not None or squashed.match(_squashed(key)) is not None
    )


@lru_cache(maxsize=8)
def _any_of(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """One expression for keys as written, one for keys without separators. In the second, the
    default's `*password*` would match `bypass_words`; the built-in rule is there for that.
    """
    own = tuple(pattern for pattern in patterns if pattern not in SECRET_KEYS)
    as_written, squashed = (
        re.compile("|".join(translate(form(pattern)) for pattern in some) or "(?!)")
        for form, some in ((str.casefold, patterns), (_squashed, own))
    )
    return as_written, squashed


_SEPARATORS = re.compile(r"[-_.\s]+")


def _squashed(key: str) -> str:
    """A key or pattern without what separates words. One that consists of nothing else stays."""
    return (_SEPARATORS.sub("", key) or key).casefold()
