"""Whether the server's SQLite and MongoDB belong together.

A metadata document belongs to the model whose number it has, and a new SQLite file counts from 1
again. So a MongoDB that is older than the SQLite file has documents for models that are yet to
come, and of several documents of a model, the server returns the first: a new model would show the
metadata of another job.

No call reads the document of a model that SQLite does not have. But one that sets a member of it
says whether there is one, and to set the model's number to what it is changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.targets.modeldb_v1.model_search import newest_model
from daemon.targets.modeldb_v1.readback import other_owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.targets.modeldb_v1.run_index import Caller

log = structlog.get_logger(__name__)

_MODEL_ID = "MODELDB_model_id"
_MAY_BE_UNREAD = {CallErrorKind.NOT_FOUND, CallErrorKind.TWIN_ROWS}
"""A run that is gone (SQLite was replaced) or that no read survives."""


class ForeignDocument(CallFailed):
    """A model in SQLite has the document of another one in MongoDB.

    Args:
        method: that read it.
        run_id: the model's run.
        model_id: the model.
        owner: whose the document is.
    """

    def __init__(self, method: str, run_id: int, model_id: int, owner: str) -> None:
        super().__init__(
            CallErrorKind.OTHER_DATABASE,
            method,
            f"MongoDB is of another database than SQLite: its metadata of model {model_id}, in run "
            f"{run_id}, are those of {owner}; "
            + _way_out(f"which is {model_id}, unless they are of the run's own job"),
            answered=True,
        )
        self.run_id = run_id
        self.model_id = model_id
        self.owner = owner


class Pairing:
    """Compares the two databases of one server, and remembers what was wrong.

    Args:
        is_writer: whether this process is the writer. Others leave the log to it.
    """

    def __init__(self, is_writer: Callable[[], bool]) -> None:
        self._is_writer = is_writer
        self._newest = 0
        self._suspect: tuple[int, int] | None = None
        self._problem = ""

    def noted(self, found: ForeignDocument) -> None:
        """A model was read with another one's document: its run is looked at again in every
        `check` until the document is the right one or gone.
        """
        self._suspect = found.run_id, found.model_id
        self._log(found)

    async def check(self, caller: Caller) -> None:
        """Looks at the run that was wrong, and for documents of models that are yet to come.

        Raises:
            CallFailed: `OTHER_DATABASE`: the two do not belong together; or a call failed.
        """
        try:
            await self._check_suspect(caller)
            await self._check_ahead(caller)
        except CallFailed as failed:
            if failed.kind is CallErrorKind.OTHER_DATABASE:
                self._log(failed)
            raise
        if self._problem:
            log.info("MongoDB and SQLite of ModelDB V1 belong together again")
        self._problem = ""

    async def _check_suspect(self, caller: Caller) -> None:
        if self._suspect is None:
            return
        (run_id, model_id), method = self._suspect, "getExperimentRunDetails"
        try:
            details = await caller.call(method, experimentRunId=run_id)
        except CallFailed as failed:
            if failed.kind not in _MAY_BE_UNREAD:
                raise
        else:
            marker = mark_in(details.experimentRun.description)
            documents = [each.metadata for each in details.modelResponses if each.id == model_id]
            if marker is not None and documents:
                owner = other_owner(documents[0], marker)
                if owner is not None:
                    raise ForeignDocument(method, run_id, model_id, owner)
        self._suspect = None

    async def _check_ahead(self, caller: Caller) -> None:
        newest = self._newest = await newest_model(caller, self._newest)
        model_id, method = newest + 1, "createOrUpdateScalarField"
        try:
            has_document = await caller.call(
                method, modelId=model_id, key=_MODEL_ID, value=str(model_id), valueType="int"
            )
        except CallFailed as failed:
            if failed.kind is CallErrorKind.NOT_THE_API and failed.answered:
                return  # a server older than 1.0.0; what is written is read back in any case
            raise
        # a document is stored after its model, so this one is not of a model that has just come
        if has_document and not await _exists(caller, model_id):
            raise CallFailed(
                CallErrorKind.OTHER_DATABASE,
                method,
                "MongoDB is of another database than SQLite: it has metadata of model "
                f"{model_id}, and SQLite has {_models_up_to(newest)}; "
                + _way_out(f"which is {model_id} or more"),
                answered=True,
            )

    def _log(self, failed: CallFailed) -> None:
        if failed.detail != self._problem and self._is_writer():
            log.error("MongoDB of ModelDB V1 is of another database", detail=failed.detail)
            self._problem = failed.detail


async def _exists(caller: Caller, model_id: int) -> bool:
    try:
        await caller.call("computeModelAncestry", modelId=model_id)
    except CallFailed as failed:
        if failed.kind is CallErrorKind.NOT_FOUND:
            return False
        if failed.kind is not CallErrorKind.TWIN_ROWS:
            raise
    return True


def _models_up_to(newest: int) -> str:
    return f"no model above {newest}" if newest else "no model"


def _way_out(which: str) -> str:
    return (
        "give the server the SQLite file that belongs to this MongoDB, or delete in MongoDB's "
        f"collection model_metadata the documents with a {_MODEL_ID} {which}"
    )
