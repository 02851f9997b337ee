"""The OpenAPI 3.1 document, made from the route table and its models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from supervisor.domain.frame import FIRST_FRAME, LAST_FRAME

from .endpoint import JSON, Endpoint
from .models import MAX_PARTS, Problem
from .problems import MEDIA_TYPE

# OpenAPI is JSON: what the functions here make and pass on is that, as plain dicts.
Json = dict[str, Any]

_REF = "#/components/schemas/{model}"

_PARAMETERS: dict[str, tuple[Json, str]] = {
    "job": ({"type": "string"}, "A job's id."),
    "file": ({"type": "string"}, "A file's id."),
    "path": ({"type": "string"}, "A file's path in the job, slashes as they are."),
    "number": ({"type": "integer", "minimum": FIRST_FRAME, "maximum": LAST_FRAME}, "A frame's number."),
    "name": ({"type": "string"}, "An output's name, slashes as they are."),
    "download": ({"type": "string"}, "A download's id."),
    "token": ({"type": "string"}, "From the url that the upload's answer gives."),
    "part": ({"type": "integer", "minimum": 1, "maximum": MAX_PARTS}, "A part's number."),
}


def openapi(endpoints: Sequence[Endpoint], *, prefix: str, version: str) -> Json:
    """Describe the calls under `prefix`."""
    schemas, definitions = models_json_schema(list(_modelled(endpoints)), ref_template=_REF)
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        paths.setdefault(prefix + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kiln",
            "version": version,
            "description": "The render farm's HTTP API. Failures are RFC 9457 problem documents.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`kiln token create USER` prints one."}},
            "schemas": definitions["$defs"],
        },
    }


def _modelled(endpoints: Sequence[Endpoint]) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    seen: set[tuple[type[BaseModel], JsonSchemaMode]] = set()
    for endpoint in endpoints:
        if endpoint.body:
            seen.add((endpoint.body, "validation"))
        if endpoint.answer is not None:
            seen.add((_item(endpoint.answer), "serialization"))
    seen.add((Problem, "serialization"))
    yield from sorted(seen, key=lambda each: (each[0].__name__, each[1]))


def _item(answer: Any) -> type[BaseModel]:
    """The model of an answer or of the items of its list."""
    model: type[BaseModel] = get_args(answer)[0] if get_args(answer) else answer
    return model


def _operation(endpoint: Endpoint, schemas: Any) -> Json:
    operation: Json = {"operationId": endpoint.name, "summary": endpoint.summary, "responses": _responses(endpoint, schemas)}
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", endpoint.path)]
    if endpoint.query:
        parameters += _query_parameters(endpoint.query)
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body:
        operation["requestBody"] = {
            "required": any(field.is_required() for field in endpoint.body.model_fields.values()),
            "content": {JSON: {"schema": schemas[(endpoint.body, "validation")]}},
        }
    elif endpoint.body_media != JSON:
        operation["requestBody"] = {"required": True, "content": {endpoint.body_media: {"schema": {"type": "string", "format": "binary"}}}}
    if not endpoint.needs_login:
        operation["security"] = []
    return operation


def _path_parameter(name: str) -> Json:
    schema, description = _PARAMETERS[name]
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _query_parameters(query: type[BaseModel]) -> Iterator[Json]:
    # inlined: a query's model is flat, and OpenAPI wants its fields one by one
    for name, schema in query.model_json_schema()["properties"].items():
        described = {key: value for key, value in schema.items() if key not in {"title", "description", "default"}}
        # left out is how a query says null
        options = [option for option in described.get("anyOf", []) if option != {"type": "null"}]
        parameter: Json = {"name": name, "in": "query", "required": False, "schema": options[0] if options else described}
        if "description" in schema:
            parameter["description"] = schema["description"]
        yield parameter


def _responses(endpoint: Endpoint, schemas: Any) -> Json:
    answer: Json = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.answer is not None:
        item = schemas[(_item(endpoint.answer), "serialization")]
        answer["content"] = {JSON: {"schema": {"type": "array", "items": item} if get_args(endpoint.answer) else item}}
    elif endpoint.answer_media:
        answer["content"] = {endpoint.answer_media: {}}
    responses = {str(endpoint.status): answer}
    for status in endpoint.also:
        content = {"content": answer["content"]} if status == HTTPStatus.PARTIAL_CONTENT else {}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **content}
    for status in sorted(_failures(endpoint)):
        content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model=Problem.__name__)}}}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return responses


def _failures(endpoint: Endpoint) -> set[int]:
    failures = {*endpoint.problems, 500}
    if endpoint.needs_login:
        failures |= {400, 401} if endpoint.method != "GET" else {401}
    if endpoint.is_owners:
        failures |= {403, 404}
    if endpoint.body:
        failures |= {400, 413, 415, 422}
    return failures
