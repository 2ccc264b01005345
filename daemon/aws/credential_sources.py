"""Where AWS credentials come from, in words: the file, program or endpoint of each provider.

Messages contain only the names of files, programs and endpoints, never their contents.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.compat import compat_shell_split
from botocore.configloader import raw_config_parse

from daemon.text import one_line

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

_CONTAINER_HOST = "http://169.254.170.2"
_METADATA_ENDPOINT = "http://169.254.169.254"
_SSO_CACHE = "~/.aws/sso/cache"


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """One provider of botocore's chain.

    Attributes:
        method: botocore's name of the provider.
        place: what it reads or asks, for messages.
        remedy: what to do when it gives nothing.
    """

    method: str
    place: str
    remedy: str

    @classmethod
    def of(cls, method: str, session: AioSession) -> CredentialSource:
        """The source of a provider, as the session's configuration names it."""
        place, remedy = _words(method, session)
        return cls(method, one_line(place)[:300], remedy)


def _words(method: str, session: AioSession) -> tuple[str, str]:
    name = profile_name(session)
    profile = _profile(session, name)
    credentials_file, config_file = aws_files()
    match method:
        case "env":
            words = (
                "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
                "correct these variables",
            )
        case "assume-role":
            words = (
                f"role {profile.get('role_arn')} of profile {name}",
                f"check the role, its trust policy and the profile in {config_file.path}",
            )
        case "assume-role-with-web-identity":
            variable = "AWS_WEB_IDENTITY_TOKEN_FILE"
            path = os.environ.get(variable) or profile.get("web_identity_token_file")
            words = (
                f"the web identity token file {path}",
                f"check that file, {variable}, the role and its trust policy",
            )
        case "sso" | "login":
            command = "aws sso login" if method == "sso" else "aws login"
            cache = f" (its cache is {_SSO_CACHE})" if method == "sso" else ""
            words = (
                f"the login of profile {name}{cache}",
                f"run `{command} --profile {name}` or correct the profile in {config_file.path}",
            )
        case "custom-process":
            words = (
                f"the credential_process {_program(profile)} of profile {name}",
                "run it by hand as the daemon's user, and correct it or the profile",
            )
        case "container-role":
            words = (
                f"the container endpoint {_container_endpoint()}{_container_token_file()}",
                "check AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI and the agent behind it",
            )
        case "iam-role":
            words = (
                f"the instance metadata at {_metadata_endpoint(session)}",
                "check the instance's role and the hop limit of its metadata",
            )
        case "shared-credentials-file":
            words = (f"the file {credentials_file.path}", "correct the file")
        case "config-file":
            words = (f"the file {config_file.path}", "correct the file")
        case _:
            words = (f"the provider {method}", "check what it needs")
    return words


@dataclass(frozen=True, slots=True)
class AwsFile:
    """A file of AWS profiles.

    Attributes:
        variable: of the environment, which names it.
        path: where it is.
        named: the environment names it, so it is expected to be there.
    """

    variable: str
    path: Path
    named: bool

    def __str__(self) -> str:
        return f"{self.path} ({self.variable})" if self.named else str(self.path)

    def state(self, profile: str) -> str:
        """What is wrong with it, in words, if it gives no credentials of a profile."""
        if self.is_switched_off:
            return "is no file of profiles"
        try:
            with self.path.open("rb"):
                pass
        except FileNotFoundError:
            return "does not exist"
        except (OSError, ValueError) as error:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}"
        return f"has no credentials of profile {profile}"

    @property
    def is_switched_off(self) -> bool:
        return str(self.path) == os.devnull

    def has_profiles(self) -> bool:
        """Whether it can be read and has any profile: an empty one may just be written."""
        try:
            return bool(raw_config_parse(str(self.path)))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it has none
            return False


def aws_files() -> tuple[AwsFile, AwsFile]:
    """The credentials file and the configuration file."""
    return (
        _file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        _file("AWS_CONFIG_FILE", "~/.aws/config"),
    )


def _file(variable: str, default: str) -> AwsFile:
    named = os.environ.get(variable)
    # as botocore does it, and unlike `Path.expanduser` also without a home directory
    path = os.path.expanduser(os.path.expandvars(named or default))  # noqa: PTH111
    return AwsFile(variable, Path(path), named=bool(named))


def profile_name(session: AioSession) -> str:
    """The profile in use."""
    return str(session.get_config_variable("profile") or "default")


def _profile(session: AioSession, name: str) -> dict[str, Any]:
    try:
        profile = session.full_config["profiles"].get(name, {})
    except Exception:  # noqa: BLE001 - only for the wording of a message; errors in the file are reported elsewhere
        return {}
    return profile if isinstance(profile, dict) else {}


def _program(profile: dict[str, Any]) -> str:
    """Its name only: an argument may be a secret."""
    try:
        return str(compat_shell_split(str(profile.get("credential_process")))[0])
    except (ValueError, IndexError):
        return "(which is no command line)"


def _container_endpoint() -> str:
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if relative is not None:
        return _CONTAINER_HOST
    url = urlsplit(os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", ""))
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _container_token_file() -> str:
    path = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    return f" with the token file {path}" if path else ""


def _metadata_endpoint(session: AioSession) -> str:
    try:
        return str(
            session.get_config_variable("ec2_metadata_service_endpoint") or _METADATA_ENDPOINT
        )
    except Exception:  # noqa: BLE001 - only for words
        return _METADATA_ENDPOINT


def metadata_words(session: AioSession) -> str:
    """Whether the instance metadata was asked, and where."""
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return "the instance metadata is switched off by AWS_EC2_METADATA_DISABLED"
    return f"the instance metadata at {_metadata_endpoint(session)} has none"
