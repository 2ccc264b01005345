"""The format of a table's items, so that a program that does not know it leaves the table alone.

Programs of different versions may share a table during a rolling update as long as the format is
the same: members that one of them does not know are added, never given another meaning. A change
that an older program cannot live with raises `FORMAT`, and the release notes say that all replicas
must be stopped for the update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.items import ItemDecision
from daemon.checkpoint.dynamodb.table import ROW
from daemon.errors import SetupFault

if TYPE_CHECKING:
    from daemon.checkpoint.dynamodb.items import Items
    from daemon.checkpoint.dynamodb.table import Item

FORMAT = 1
"""What this program reads and writes."""


async def require_known_format(items: Items, *, note: bool) -> None:
    """Compares the format of a table with that of this program.

    Args:
        items: of the table.
        note: whether a table without a format gets this program's.

    Raises:
        SetupFault: a newer version of this program wrote the table; it is unchanged.
        EdgeFault: the table's.
    """

    def rule(item: Item | None) -> ItemDecision[None]:
        if item is None:
            return ItemDecision(None, {ROW: str(FORMAT)} if note else None)
        found = str(item[ROW])
        if not found.isdecimal() or int(found) > FORMAT:
            raise SetupFault(
                "the checkpoint's table was written by a newer version of this program (format "
                f"{found}; this one knows formats up to {FORMAT}): run that version, or give this "
                "one another table"
            )
        return ItemDecision(None)

    await items.decide(keys.TABLE, keys.FORMAT, rule)
