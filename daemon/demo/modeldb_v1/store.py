"""What the ModelDB V1 stand-in keeps: the tables of the server's SQLite database, in memory.

Like the real ones (watched on v1.0.0): ids count up above the largest that was ever used, a client
may choose one, nothing is unique but ids, references may point to nothing, rows cannot be deleted,
and each insert is committed by itself. What SQLite refuses is refused with the server's own words.
"""

from __future__ import annotations

import math
import struct
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Row = dict[str, Any]

FIT = "fit"
METRIC = "metric"
"""What rows of the table Event are of."""


class ServerError(Exception):
    """An error in the server's Java, which it reports as ServerLogicException.

    Args:
        text: the class without its package, a colon, and its message.
    """


def null_pointer() -> ServerError:
    return ServerError("NullPointerException: null")


def too_many_rows() -> ServerError:
    return ServerError("TooManyRowsException: Cursor returned more than one result")


def database_error(statement: str, error: str) -> ServerError:
    return ServerError(f"DataAccessException: SQL [{statement}]; {error}")


class Table:
    """Rows by id.

    Args:
        name: in the server's database.
        columns: all but the id; a "!" behind those that must not be NULL.
        indexed: those by which `where` finds rows without a search.
    """

    def __init__(self, name: str, columns: str, indexed: str = "") -> None:
        self.name = name
        self._columns = [column.rstrip("!") for column in columns.split()]
        self._required = [column.rstrip("!") for column in columns.split() if column.endswith("!")]
        self._rows: dict[int, Row] = {}
        self._indices: dict[str, dict[Any, list[Row]]] = {column: {} for column in indexed.split()}
        self._largest_id = 0

    def __iter__(self) -> Iterator[Row]:
        """In the order of their ids."""
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, row_id: int | None) -> Row | None:
        return None if row_id is None else self._rows.get(row_id)

    def where(self, column: str, value: object) -> Sequence[Row]:
        """The rows with a value, in the order of their ids; nothing equals NULL."""
        if value is None:
            return []
        if column in self._indices:
            return self._indices[column].get(value, [])
        return [row for row in self if row[column] == value]

    def insert(self, values: Row) -> Row:
        """A new row, as it is in the table now.

        Args:
            values: of the columns that the statement names; an "id" is taken, unless it is
                negative.

        Raises:
            ServerError: a column that must not be NULL is, or the id is taken.
        """
        values = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in values.items()
        }
        row_id = values.pop("id", -1)
        for column in self._required:
            if values.get(column) is None:
                raise self._violated("NOTNULL", "NOT NULL", "NOT NULL", column, values)
        if row_id in self._rows:
            raise self._violated("PRIMARYKEY", "PRIMARY KEY", "UNIQUE", "id", values)
        return self._enter(row_id if row_id >= 0 else self._largest_id + 1, values)

    def _violated(
        self, code: str, kind: str, constraint: str, column: str, values: Row
    ) -> ServerError:
        problem = f"({constraint} constraint failed: {self.name}.{column})"
        return database_error(
            self._statement(values),
            f"[SQLITE_CONSTRAINT_{code}]  A {kind} constraint failed {problem}",
        )

    def delete(self, row_id: int) -> None:
        """Deletes a row behind the server's back: it has no call for this."""
        del self._rows[row_id]
        self._index()

    def clear(self) -> None:
        """Empties it as a new file is empty: ids count from 1 again."""
        self._rows.clear()
        self._index()
        self._largest_id = 0

    def _enter(self, row_id: int, values: Row) -> Row:
        row = {"id": row_id, **{column: values.get(column) for column in self._columns}}
        self._rows[row_id] = row
        if row_id < self._largest_id:
            self._rows = dict(sorted(self._rows.items()))
            self._index()
        else:
            self._largest_id = row_id
            for column, index in self._indices.items():
                index.setdefault(row[column], []).append(row)
        return row

    def _index(self) -> None:
        for column, index in self._indices.items():
            index.clear()
            for row in self:
                index.setdefault(row[column], []).append(row)

    def _statement(self, values: Row) -> str:
        names = ["id", *(column for column in self._columns if column in values)]
        columns = ", ".join('"key"' if name == "key" else name for name in names)
        return f"insert into {self.name} ({columns}) values ({', '.join('?' * len(names))})"  # noqa: S608 - it only stands in errors


class Store:
    """All tables that this program's calls touch."""

    def __init__(self) -> None:
        self.projects = Table("Project", "name author description created!")
        self.experiments = Table("Experiment", "project! name! description created!", "project")
        self.runs = Table("ExperimentRun", "experiment! description sha created!", "experiment")
        self.key_values = Table("MetadataKV", "key! value! valueType!")
        self.data_frames = Table(
            "DataFrame", "tag numRows! experimentRun! filepath", "experimentRun"
        )
        self.data_frame_columns = Table("DataFrameColumn", "dfId! name! type!", "dfId")
        self.data_frame_metadata = Table("DataFrameMetadata", "dfId! metadataKvId!", "dfId")
        self.specs = Table("TransformerSpec", "transformerType! tag experimentRun!")
        self.hyperparameters = Table(
            "HyperParameter",
            "spec! paramName! paramType! paramValue! paramMinValue paramMaxValue experimentRun!",
            "spec",
        )
        self.models = Table(
            "Transformer", "transformerType! tag experimentRun! filepath", "experimentRun"
        )
        self.fits = Table(
            "FitEvent",
            "transformerSpec! transformer! df! predictionColumns! labelColumns! experimentRun! "
            "problemType!",
            "transformer",
        )
        self.features = Table(
            "Feature", "name! featureIndex! importance! transformer", "transformer"
        )
        self.metrics = Table(
            "MetricEvent", "transformer! df! metricType! metricValue! experimentRun!", "transformer"
        )
        self.events = Table("Event", "eventType! eventId! experimentRun!", "eventId")
        self.read_back: Callable[[Table, Row], int | None] = lambda _table, row: int(row["id"])
        """Asked after each insert for the id that the server reads back, maybe another row's."""

    def clear(self) -> None:
        """Empties every table, as a new SQLite file has them."""
        for table in vars(self).values():
            if isinstance(table, Table):
                table.clear()

    def insert(self, table: Table, **values: object) -> int | None:
        """The id of the new row, as the server reads it back; raises what `Table.insert` does."""
        return self.read_back(table, table.insert(values))

    def event_of(self, fit_id: int) -> Row | None:
        """The event row of a fit."""
        return next(
            (event for event in self.events.where("eventId", fit_id) if event["eventType"] == FIT),
            None,
        )

    def default_experiment(self, project_id: int) -> int:
        """The first one of the project; -1: it has none."""
        return next((int(row["id"]) for row in self.experiments.where("project", project_id)), -1)

    def runs_in_project(self, project_id: int) -> list[Row]:
        """In the order of their ids."""
        experiments = self.experiments.where("project", project_id)
        return sorted(
            (run for each in experiments for run in self.runs.where("experiment", each["id"])),
            key=lambda run: run["id"],
        )


def single(rows: Sequence[Row]) -> Row | None:
    """The only row, or None; raises `ServerError` for several."""
    if len(rows) > 1:
        raise too_many_rows()
    return rows[0] if rows else None


def unboxed(row_id: int | None) -> int:
    """An id as a Java int; raises `ServerError` for none."""
    if row_id is None:
        raise null_pointer()
    return row_id


def now() -> int:
    """What the server stores as a time: milliseconds of the epoch."""
    return time.time_ns() // 1_000_000


def printed_time(milliseconds: int) -> str:
    """A time as the server prints it: in its own time zone, without saying which."""
    seconds, rest = divmod(milliseconds, 1000)
    moment = datetime.fromtimestamp(seconds)  # noqa: DTZ006 - the server's local time, as it prints it
    return f"{moment:%Y-%m-%d %H:%M:%S}.{f'{rest:03}'.rstrip('0') or '0'}"


def float32(value: float) -> float:
    """A number as a REAL column gives it back that was filled from a 32-bit float."""
    try:
        narrow: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        narrow = math.copysign(math.inf, value)
    return narrow + 0.0  # SQLite keeps no sign of a zero
