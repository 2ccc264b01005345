"""Where settings come from: a YAML file, secret files and environment variables.

In increasing precedence: the YAML file, secret files, environment variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from daemon.config.keys import KeyIndex
from daemon.config.layers import Layers
from daemon.config.settings import Settings
from daemon.errors import SetupFault
from daemon.targets.registry import DEFAULT_KIND, unusable_plug_in

if TYPE_CHECKING:
    from daemon.config.keys import KeyPath

ENV_PREFIX = "MODELDB_SYNC_"
FILE_VARIABLE = "MODELDB_SYNC_CONFIG"
DEFAULT_FILE = Path("/etc/modeldb-sync/config.yaml")
SECRETS_DIR = Path("/run/secrets")


class ConfigError(SetupFault):
    """The configuration cannot be used.

    Args:
        problems: one line each, with the key, its value (never a secret), what is allowed and where
            the value came from.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings(
    path: Path | None,
    environ: Mapping[str, str],
    secrets_dir: Path = SECRETS_DIR,
    default_path: Path = DEFAULT_FILE,
) -> Settings:
    """Reads the configuration from all sources.

    Args:
        path: the file given on the command line; None: ``MODELDB_SYNC_CONFIG``, else
            `default_path`.
        environ: the environment variables.
        secrets_dir: the directory of secret files ``<section>__<key>``; may be missing.
        default_path: a file that may be missing.

    Raises:
        ConfigError: with all problems.
    """
    layers = Layers(setting_keys())
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    if path is None and default_path.exists():
        path = default_path
    readable = path is None or read_file(path, layers)
    read_secret_files(secrets_dir, layers)
    read_variables(environ, layers)
    _refuse_an_unusable_plug_in(layers)
    if readable:  # without the file, its keys would be reported as missing
        try:
            settings = Settings.model_validate(layers.tree())
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False):
                layers.explain(error)
        else:
            if not layers.problems:
                return settings
    raise ConfigError(tuple(dict.fromkeys(layers.problems)))


def _refuse_an_unusable_plug_in(layers: Layers) -> None:
    """The plug-in's own keys are unknown, too, which would only distract.

    Raises:
        ConfigError: ``target.kind`` names a plug-in that cannot be used.
    """
    path = ("target", "kind")
    kind = layers.value_at(path) if layers.has(path) else DEFAULT_KIND
    plug_in = unusable_plug_in(kind)
    if plug_in is not None:
        layers.problem(
            "target.kind",
            f"the plug-in {plug_in} {plug_in.fault}",
            layers.source_of(path),
            shown=repr(kind),
        )
        raise ConfigError((layers.problems[-1],))


def setting_keys() -> KeyIndex:
    """All keys of the configuration."""
    return KeyIndex(Settings, ENV_PREFIX)


def read_file(path: Path, layers: Layers) -> bool:
    """Reads a YAML file into layers.

    Returns:
        False if the file as a whole cannot be read; the problem says why.
    """
    try:
        node, values = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        layers.problem(f"configuration file {path}", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        layers.problem(f"configuration file {path}", "is not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        layers.problem(f"configuration file {path}", f"is not valid YAML{_complaint(error)}")
    except (yaml.YAMLError, ValueError, RecursionError):
        # ValueError: a date like 2024-13-45. Its text may contain the value and is not shown.
        layers.problem(
            f"configuration file {path}",
            "is not valid YAML: characters, dates, numbers or nesting out of range",
        )
    else:
        if values is None:  # nothing in it but comments
            return True
        if isinstance(node, yaml.MappingNode):
            _FileReader(path, layers).section((), node, values)
            return True
        layers.problem(
            f"configuration file {path}", "must be a mapping of sections, like queue: {url: …}"
        )
    return False


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    # parsed twice, because constructing the values merges "<<" into the nodes, which then seem to
    # have keys given twice
    return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def _complaint(error: yaml.MarkedYAMLError) -> str:
    """The YAML error without the names of aliases and tags, because a secret that begins with * or
    ! is parsed as one.
    """
    mark = error.problem_mark or error.context_mark
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = re.sub(r"'(?!<)[^']{2,}'", "…", error.problem or "")
    return f"{where}: {said}"


class _FileReader:
    """Walks the parsed values together with their nodes, which have line numbers."""

    def __init__(self, path: Path, layers: Layers) -> None:
        self._path = path
        self._layers = layers
        self._index = layers.index

    def section(self, above: KeyPath, node: yaml.Node | None, values: Mapping[Any, Any]) -> None:
        """Reads a section.

        Args:
            above: its path.
            node: None if it comes from an alias or a merge and has no line numbers.
            values: its parsed keys and values.
        """
        nodes: dict[str, tuple[yaml.Node, int]] = {}
        for name_node, value_node in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = str(name_node.value), name_node.start_mark.line + 1
            if name in nodes:
                lines = f"line {nodes[name][1]} and line {line}"
                self._layers.problem(
                    ".".join((*above, name)), "is given twice", f"file {self._path}, {lines}"
                )
            nodes[name] = value_node, line
        for name, value in values.items():
            value_node, line = nodes.get(str(name), (None, 0))
            self._entry(
                (*above, str(name)),
                value_node,
                value,
                f"file {self._path}" + (f", line {line}" if line else ""),
            )

    def _entry(self, path: KeyPath, node: yaml.Node | None, value: Any, source: str) -> None:  # noqa: ANN401 - YAML data
        key = ".".join(path)
        with_entries = self._index.is_section(key) or self._index.holds(key, Mapping)
        if not with_entries and not self._index.accepts(path):
            self._layers.problem(key, self._index.unknown(key), source)
        elif value is None:
            pass  # null or "key:" without a value: the default
        elif with_entries and isinstance(value, Mapping):
            self.section(path, node, value)
        elif with_entries:
            self._layers.problem(key, "must be a mapping of keys", source)
        elif key in self._index.fields:
            self._layers.put(path, value, source)
        else:
            entry = (*path[:-1], path[-1].lower())
            if self._layers.has(entry):
                self._layers.problem(
                    key, "is given twice (upper and lower case do not count)", source
                )
            self._layers.put(entry, value, source)


def read_secret_files(directory: Path, layers: Layers) -> None:
    """Reads the files named ``<section>__<key>``; ignores others and a missing directory."""
    try:
        entries = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        layers.problem(
            f"directory of secret files {directory}", f"cannot be read: {error.strerror}"
        )
        return
    for entry in entries:
        path = tuple(entry.name.split("__"))
        if len(path) == 1 or not layers.index.accepts(path) or entry.is_dir():
            continue
        source = f"secret file {entry}"
        try:
            text = entry.read_text(encoding="utf-8")
        except OSError as error:
            layers.problem(".".join(path), f"cannot be read: {error.strerror}", source)
        except UnicodeDecodeError:
            layers.problem(".".join(path), "is not UTF-8 text", source)
        else:
            known = ".".join(path) in layers.index.fields
            layers.put_text(
                path if known else (*path[:-1], path[-1].lower()), text.rstrip("\r\n"), source
            )


def read_variables(environ: Mapping[str, str], layers: Layers) -> None:
    """Reads the variables ``<PREFIX><SECTION>__<KEY>``, case-insensitively.

    Others without ``__`` are ignored, unless they name a key that is in no section: Kubernetes sets
    ``<PREFIX>PORT`` and others for a service of that name.
    """
    index = layers.index
    seen: dict[str, str] = {}
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith(index.prefix):
            continue
        path = tuple(name.removeprefix(index.prefix).lower().split("__"))
        if len(path) == 1 and path[0] not in index.fields:
            continue
        key, source = ".".join(path), f"variable {variable}"
        if name in seen:
            layers.problem(
                key,
                f"is given twice, also as {seen[name]} (upper and lower case do not count)",
                source,
            )
        elif index.accepts(path):
            layers.put_text(path, environ[variable], source)
        elif index.is_section(key):
            example = next(known for known in index.fields if known.startswith(f"{key}."))
            layers.problem(
                key,
                f"has keys of its own; set them one by one, like {index.variable(example)}",
                source,
            )
        else:
            layers.problem(key, index.unknown(key), source)
        seen[name] = variable
