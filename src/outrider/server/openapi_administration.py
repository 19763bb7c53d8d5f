"""The operations of administration in the OpenAPI document, those of models among them."""

from __future__ import annotations

from outrider.dialects import administration as kinds
from outrider.dialects import model_administration as models
from outrider.dialects import openai_answers
from outrider.server.openapi import CSV, Body, Operation, Schema, Wire, answered_by, errors

_WIRE = Wire("Outrider", errors((400, 401, 403, 404, 408, 413, 500, 503), openai_answers.ErrorBody))
_operation = answered_by(_WIRE, 401, 500)
_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": kinds.MAX_ROWS}
_REQUESTS: dict[str, Schema] = {
    "since": _TIME,
    "until": _TIME,
    "key": _TEXT,
    "model": _TEXT,
    "provider": _TEXT,
    "status": {"type": "string", "pattern": f"^([0-9]{{3}}|{'|'.join(kinds.STATUS_WORDS)})$"},
    "limit": _LIMIT,
    "before": {"type": "integer", "minimum": 1},
    "format": {"type": "string", "enum": ["json", "csv"]},
}
_BATCHES: dict[str, Schema] = {
    "limit": _LIMIT,
    "after": _TEXT,
    "state": {"type": "string", "enum": ["unfinished"]},
}
_READING = (400, 408, 413)  # of what is wrong with a body


def administration_operations() -> list[Operation]:
    """Give the operations."""
    providers, batches = "/outrider/v1/providers", "/outrider/v1/batches"
    chosen = Body(kinds.EndpointChoice)
    return [
        _operation(
            "GET", "/outrider/v1/requests", "List the last requests.", kinds.RequestList,
            (400, 503), query=_REQUESTS, text_types=(CSV,),
        ),
        _operation(
            "GET", batches, "List everybody's batches.", kinds.BatchList, (400, 404, 503),
            query=_BATCHES,
        ),
        _operation(
            "POST", batches + "/{batch_id}/cancel", "Stop anybody's batch.", kinds.BatchRow,
            (400, 404, 503),
        ),
        _operation("GET", providers, "Say how every provider is doing.", kinds.EndpointList),
        _operation(
            "POST", providers + "/check", "Ask a provider what it can do.", kinds.Checked,
            (*_READING, 404), body=chosen,
        ),
        _operation(
            "POST", providers + "/reset", "Let a provider be asked again.", kinds.EndpointRow,
            (*_READING, 404), body=chosen,
        ),
        *_of_models(),
    ]  # fmt: skip


def _of_models() -> list[Operation]:
    path, jobs, job = "/outrider/v1/models", "/outrider/v1/jobs", models.JobRow
    chosen = Body(models.ModelChoice)
    return [
        _operation("GET", path, "List the models of this machine.", models.OwnModels, (400,)),
        _operation(
            "POST", path + "/pull", "Begin to fetch a model.", job, _READING, body=chosen,
            success=202,
        ),
        _operation(
            "POST", path + "/load", "Begin to load a model.", job, _READING,
            body=Body(models.LoadChoice), success=202,
        ),
        _operation("POST", path + "/unload", "Begin to unload it.", job, (400,), success=202),
        _operation(
            "POST", path + "/delete", "Delete a model.", models.ModelDeleted, _READING, body=chosen
        ),
        _operation("GET", jobs, "List what is being done.", models.JobList),
        _operation("GET", jobs + "/{job_id}", "Show a job.", job, (404,)),
        _operation("POST", jobs + "/{job_id}/cancel", "End a job.", job, (400, 404)),
    ]  # fmt: skip
