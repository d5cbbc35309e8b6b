"""The OpenAPI document of the control API, made of its routes and bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from volplug.api.routes import EVENT_STREAM, JSON, ROUTES, Route
from volplug.api.schemas import ErrorBody

_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"{(\w+)}")
_KEY_SCHEMA: Final = {"type": "string", "pattern": "^[!-~]{1,200}$"}
_HEADER_SCHEMAS: Final = {"Idempotency-Key": _KEY_SCHEMA}
_DESCRIPTION: Final = (
    "The control API of one host's volplug. On the Unix socket clients need neither token nor certificate; "
    "on TCP they need one of the two."
)


def document(version: str, routes: Sequence[Route] = ROUTES) -> dict[str, Any]:
    """Return the document; `version` is volplug's."""
    paths: dict[str, dict[str, Any]] = {}
    schemas = _schemas(routes)
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "volplug", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if not name.endswith("Query")},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
        "security": [{"token": []}, {"certificate": []}],
    }


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    models: dict[type[BaseModel], JsonSchemaMode] = {ErrorBody: "serialization"}
    for route in routes:
        models |= {model: "validation" for model in (route.body, route.query) if model is not None}
        models |= {model: "serialization" for model in route.answers.values() if model is not None}
    _, made = models_json_schema(list(models.items()), ref_template=_REF)
    schemas: dict[str, Any] = made["$defs"]
    return schemas


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "description": f"Role: {route.role}",
        "parameters": [*_in_path(route), *_in_query(route, schemas), *_in_headers(route)],
        "responses": {str(status): _answer(status, model, route) for status, model in route.answers.items()},
    }
    for status in route.errors:
        operation["responses"][str(status)] = _error(HTTPStatus(status).phrase)
    operation["responses"]["default"] = _error("Any other error")
    if route.body is not None:
        is_required = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {"required": is_required, "content": _json(_reference(route.body))}
    return operation


def _in_path(route: Route) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name in _PARAMETER.findall(route.path)
    ]


def _in_query(route: Route, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    properties = schemas[_name(route.query)]["properties"] if route.query is not None else {}
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: one that is not given has no value, and so never null."""
    bare = {key: value for key, value in schema.items() if key not in {"title", "default", "anyOf"}}
    for choice in schema.get("anyOf", ()):
        if choice != {"type": "null"}:
            bare |= choice
    if schema.get("default") is not None:
        bare["default"] = schema["default"]
    return bare


def _in_headers(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": meaning,
            "schema": _HEADER_SCHEMAS.get(name, {"type": "string"}),
        }
        for name, meaning in route.headers.items()
    ]


def _answer(status: int, model: type[BaseModel] | None, route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": _answer_headers(status, route),
    }
    if model is not None:
        answer["content"] = _json(_reference(model))
    elif route.text:
        answer["content"] = {route.text: {"schema": {"type": "string"}}}
    elif status == HTTPStatus.OK:
        answer["content"] = _json({"type": "object"})
    if route.streams:
        answer["content"][EVENT_STREAM] = {"schema": {"type": "string"}}
    return answer


def _answer_headers(status: int, route: Route) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    headers: dict[str, Any] = {"X-Request-Id": text}
    if status == HTTPStatus.ACCEPTED:
        headers["Location"] = {"description": "Path of the operation", **text}
    if "If-None-Match" in route.headers:
        headers["ETag"] = text
    return headers


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json(_reference(ErrorBody))}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=_name(model))}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {JSON: {"schema": schema}}
