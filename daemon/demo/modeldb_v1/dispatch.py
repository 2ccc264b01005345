"""From request to answer: what lies between the V1 stand-in's connections and its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thriftpy2.thrift import TException

from daemon.demo.modeldb_v1.metadata import MODEL_ID, Documents, cast_value, parse_document
from daemon.demo.modeldb_v1.reads import READING, project_ids_statement
from daemon.demo.modeldb_v1.store import ServerError, Store, null_pointer
from daemon.demo.modeldb_v1.writes import STORING, given
from daemon.targets.modeldb_v1.codec import (
    INTERFACE,
    ApplicationException,
    encode_application_exception,
    encode_exception,
    encode_reply,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.demo.modeldb_v1.faults import Faults
    from daemon.targets.modeldb_v1.codec import Call

_UNKNOWN_METHOD, _INTERNAL_ERROR = 1, 6
_SQL_CALLS = {**STORING, **READING}
_DOCUMENT_CALLS = {"getModelIds", "createOrUpdateScalarField"}
_WITHOUT_STORAGE = {"testConnection", *_DOCUMENT_CALLS}
_INSERT_RUN = "insert into ExperimentRun (id, experiment, description, created) values (?, ?, ?, ?)"


class Backend:
    """Both of the server's databases, and its calls for them.

    Args:
        store: the tables of SQLite.
        documents: what is in MongoDB.
        faults: asked whether the two can be reached.
    """

    def __init__(self, store: Store, documents: Documents, faults: Faults) -> None:
        self._store = store
        self._documents = documents
        self._faults = faults

    async def answer(self, call: Call) -> bytes:
        """Carries a call out.

        Returns:
            The answer as a frame without its length.

        Raises:
            daemon.demo.modeldb_v1.writes.ConnectionBrokenError: there is none: the connection is to
            be closed.
        """
        if call.method not in {*_DOCUMENT_CALLS, *_SQL_CALLS}:
            return refusal(
                call, ApplicationException(_UNKNOWN_METHOD, f"Invalid method name: '{call.method}'")
            )
        try:
            result = await self._perform(call.method, call.arguments)
        except ServerError as error:
            return refusal(call, INTERFACE.ServerLogicException(str(error)))
        except TException as exception:
            return refusal(call, exception)
        return encode_reply(call.method, call.sequence_id, result)

    async def _perform(self, method: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any result of the interface
        if method not in _WITHOUT_STORAGE:
            await self._faults.reach_storage(_first_statement(method, arguments))
        if method == "getModelIds":
            if arguments["keyValuePairs"] is None:
                raise null_pointer()
            await self._faults.reach_mongo(to_write=False)
            return self._documents.model_ids(arguments["keyValuePairs"])
        if method == "createOrUpdateScalarField":
            return await self._set_field(arguments)
        result = _SQL_CALLS[method](self._store, arguments)
        if method == "storeFitEvent":
            await self._store_document(result.modelId, arguments["fe"].metadata)
        elif method == "getExperimentRunDetails":
            for model in result.modelResponses:
                await self._faults.reach_mongo(to_write=False)
                model.metadata = self._documents.printed_of(model.id)
        return result

    async def _set_field(self, arguments: Mapping[str, Any]) -> bool:
        value = cast_value(given(arguments["value"]), given(arguments["valueType"]))
        await self._faults.reach_mongo(to_write=True)
        return self._documents.set_field(arguments["modelId"], given(arguments["key"]), value)

    async def _store_document(self, model_id: int, metadata: str | None) -> None:
        if metadata is not None:
            document = parse_document(metadata)
            document[MODEL_ID] = model_id
            await self._faults.reach_mongo(to_write=True)
            self._documents.insert(document)


def refusal(call: Call, exception: object) -> bytes:
    """An answer with an exception; one that the method does not declare is an internal error."""
    if isinstance(exception, ApplicationException):
        return encode_application_exception(call.method, call.sequence_id, exception)
    try:
        return encode_exception(call.method, call.sequence_id, exception)
    except ValueError:
        failure = ApplicationException(_INTERNAL_ERROR, f"Internal error processing {call.method}")
        return encode_application_exception(call.method, call.sequence_id, failure)


def _first_statement(method: str, arguments: Mapping[str, Any]) -> str:
    """The error of a locked database; only the two that were recorded are spelled out."""
    match method:
        case "getProjectIds":
            return project_ids_statement(arguments)
        case "storeExperimentRunEvent":
            return _INSERT_RUN
    return "select …"
