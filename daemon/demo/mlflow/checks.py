"""What MLflow's server checks of the members of a body by name, before it uses what it parsed.

Types are checked only where the parse stopped, and only of the members that a call names here: so a
wrong type elsewhere goes unnoticed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.demo.mlflow.replies import Crash, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.demo.mlflow.parsing import Json

_HINT = " See the API docs for more information about request parameters."


class Check:
    """One check of a member.

    Args:
        passes: of its value.
        of_type: it is skipped after a parse that did not stop.
        required: it is made of an absent member, too.
    """

    def __init__(
        self, passes: Callable[[Any], bool], *, of_type: bool = False, required: bool = False
    ) -> None:
        self.passes = passes
        self.of_type = of_type
        self.required = required


Checks = dict[str, "Sequence[Check | Callable[[Any], None]]"]


def _is_integral(value: Json) -> bool:
    try:
        int(value)
    except ValueError:
        return isinstance(value, int)
    except TypeError as error:
        raise Crash from error
    return True


def _below(limit: int) -> Check:
    def passes(value: Json) -> bool:
        try:
            return int(value) <= limit
        except (TypeError, ValueError) as error:
            raise Crash from error

    return Check(passes)


def _has_strings(value: Json) -> bool:
    return all(isinstance(item, str) for item in value)


REQUIRED = Check(lambda value: value is not None and value != "", required=True)
STRING = Check(lambda value: isinstance(value, str), of_type=True)
INTEGRAL = Check(_is_integral, of_type=True)
ARRAY = Check(lambda value: isinstance(value, list), of_type=True)
STRING_ITEMS = Check(_has_strings, of_type=True)
UP_TO_50000 = _below(50_000)
UP_TO_200000 = _below(200_000)


def members_present(list_name: str, *names: str) -> Callable[[Any], None]:
    """Each item of a list has these members; null and the empty text count as absent."""

    def check(items: Json) -> None:
        if not isinstance(items, list | dict | str):
            raise Crash
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise Crash
            for name in names:
                if item.get(name) is None or item[name] == "":
                    path = f"{list_name}[{index}].{name}"
                    raise invalid(f"Missing value for required parameter '{path}'.{_HINT}")

    return check


def run_checks(given: Json, checks: Mapping[str, Any], *, stopped: bool) -> None:
    """Makes the checks of a call.

    Args:
        given: the body, or the query as an object.
        checks: by name of member.
        stopped: whether the parse stopped.

    Raises:
        ServerError: INVALID_PARAMETER_VALUE.
        Crash: a body that is no object, as far as its members are asked for.
    """
    for name, of_member in checks.items():
        required = any(isinstance(check, Check) and check.required for check in of_member)
        if name not in given and not required:
            continue
        if not isinstance(given, dict):
            raise Crash
        value = given.get(name)
        if name == "run_id" and value is None:
            value = given.get("run_uuid")
        for check in of_member:
            if not isinstance(check, Check):
                check(value)
            elif not (check.of_type and not stopped) and not check.passes(value):
                raise invalid(_complaint(name, value, check) + _HINT)


def _complaint(name: str, value: Json, check: Check) -> str:
    if check is REQUIRED:
        return f"Missing value for required parameter '{name}'."
    printed = json.dumps(value, sort_keys=True, separators=(",", ":"))
    hint = f"Hint: Value was of type '{type(value).__name__}'."
    return f"Invalid value {printed} for parameter '{name}' supplied:  {hint}"
