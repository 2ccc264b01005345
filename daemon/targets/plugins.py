"""Kinds of target from other packages: entry points of the group `GROUP`, each a `TargetKind`.

A plug-in that cannot be used is noted, and stops the daemon only if ``target.kind`` names it.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any, get_args

from daemon.redaction.redactor import without_shapes
from daemon.targets.kind import TargetKind
from daemon.targets.ports import Target
from daemon.targets.settings import TargetSettings
from daemon.text import one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from importlib.metadata import Distribution, EntryPoint

GROUP = "sagemaker_modeldb_sync.targets"
TARGET_MEMBERS = tuple(name for name in vars(Target) if not name.startswith("_"))
"""What the daemon uses of a target."""
_SETTINGS_MODULE = "daemon.config.settings"


@dataclass(frozen=True, slots=True)
class PlugIn:
    """An entry point of the group."""

    name: str
    """Of the entry point: the word in ``target.kind``."""
    package: str
    version: str
    value: str
    """What the entry point points to, ``module:object``."""
    kind: TargetKind[Any] | None = None
    """None: it cannot be used."""
    fault: str = ""
    """Why it cannot be used."""
    word: str = ""
    """Its own word for ``target.kind``, where that is not the name of the entry point."""

    def __str__(self) -> str:
        return f"{self.package} {self.version} (entry point {self.name} = {self.value})"

    def failure(self, error: Exception) -> str:
        """An error of its code that nobody foresees, in one line."""
        return f"the plug-in {self} failed: {_said(error)}"


class _UnusableError(Exception):
    """What keeps a plug-in from being used, in words that follow its name.

    Args:
        words: these words.
        word: `PlugIn.word`.
    """

    def __init__(self, words: str, word: str = "") -> None:
        super().__init__(words)
        self.word = word


def load_plug_ins(
    built_in: Collection[str], installed: Iterable[Distribution] | None = None
) -> Sequence[PlugIn]:
    """Imports the plug-ins of the installed packages. Never raises for what is in them.

    Args:
        built_in: the daemon's own kinds, whose names nobody else may take.
        installed: packages; None: those of this Python.
    """
    found = list(_entry_points(distributions() if installed is None else installed))
    times = Counter(plug_in.name for plug_in, _ in found)
    loaded = []
    for plug_in, entry_point in found:
        try:
            if plug_in.name in built_in:
                raise _UnusableError(f"takes the name of the built-in kind {plug_in.name}")  # noqa: TRY301 - one place that makes the fault
            if times[plug_in.name] > 1:
                others = [str(each) for each, _ in found if each.name == plug_in.name]
                raise _UnusableError(  # noqa: TRY301 - as above
                    f"is one of several of this name: {', '.join(others)}; remove all but one"
                )
            loaded.append(replace(plug_in, kind=_kind(plug_in, entry_point)))
        except _UnusableError as error:
            loaded.append(replace(plug_in, fault=str(error), word=error.word))
    return loaded


def _entry_points(installed: Iterable[Distribution]) -> Iterator[tuple[PlugIn, EntryPoint]]:
    """Those of the group, of each package the first on the path."""
    seen = set()
    for package in installed:
        try:
            # a tenth of the time of `importlib.metadata.entry_points`, which parses all of them
            if GROUP not in (package.read_text("entry_points.txt") or ""):
                continue
            name, version = package.name, package.version
            entry_points = tuple(package.entry_points.select(group=GROUP))
        except Exception:  # noqa: BLE001, S112 - a damaged package, of whatever kind, is not a plug-in
            continue
        if name in seen:
            continue
        seen.add(name)
        for entry_point in entry_points:
            yield PlugIn(entry_point.name, name, version, entry_point.value), entry_point


def _kind(plug_in: PlugIn, entry_point: EntryPoint) -> TargetKind[Any]:
    """Imports a kind and tests what the daemon relies on.

    Raises:
        _UnusableError: with what is wrong.
    """
    complete = _SETTINGS_MODULE in sys.modules
    try:
        kind = entry_point.load()
    except (Exception, SystemExit) as error:
        raise _UnusableError(f"cannot be imported: {_said(error)}") from error
    if not isinstance(kind, TargetKind):
        raise _UnusableError(
            f"is no TargetKind of daemon.targets.kind, but of type {type(kind).__name__}"
        )
    if not complete and _SETTINGS_MODULE in sys.modules:
        raise _UnusableError(
            f"imports {_SETTINGS_MODULE}, which reads the list of kinds that it is to be added to"
        )
    problem = _problem_of(kind.settings)
    if problem:
        raise _UnusableError(f"has settings that cannot be used: {problem}")
    if kind.name != plug_in.name:
        raise _UnusableError(
            f"is of kind {kind.name}, which must be the name of its entry point, too", kind.name
        )
    return kind


def _problem_of(settings: object) -> str:
    """What keeps a class of settings from being a section of the configuration; "": nothing."""
    if not (isinstance(settings, type) and issubclass(settings, TargetSettings)):
        return "they are no class derived from daemon.targets.settings.TargetSettings"
    name = settings.__name__
    try:
        settings.model_rebuild(raise_errors=True)
    except Exception as error:  # noqa: BLE001 - whatever pydantic or the class itself raises
        return f"{name}: {_said(error)}"
    field = settings.model_fields.get("kind")
    words = () if field is None else get_args(field.annotation)
    if len(words) != 1 or not isinstance(words[0], str):
        return f"{name}.kind must be a Literal of one word"
    if missing := sorted(getattr(settings, "__abstractmethods__", ())):
        return f"{name} lacks {', '.join(missing)}"
    if "settle_seconds" not in settings.model_fields and not hasattr(settings, "settle_seconds"):
        return f"{name} lacks settle_seconds"
    return ""


def _said(error: BaseException) -> str:
    text = without_shapes(one_line(str(error)))
    return shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)
