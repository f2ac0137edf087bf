"""The OpenAPI 3.1 document, made from the route records and the models alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ua_vp import errors
from ua_vp.errors import VpError
from ua_vp.ops import problems
from ua_vp.ops.routes import JSON, Route
from ua_vp.wire import Problem

REFERENCE = "#/components/schemas/{model}"
EVERYWHERE: tuple[type[VpError], ...] = (
    errors.ValidationError,
    errors.NotAcceptableError,
    errors.HostRefusedError,
    errors.LedgerBusyError,
    errors.LedgerGoneError,
)
WITH_TOKEN: tuple[type[VpError], ...] = (errors.UnauthorizedError, errors.ForbiddenError)
WITH_BODY: tuple[type[VpError], ...] = (errors.TooLargeError, errors.UnsupportedMediaTypeError)
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """The whole document."""
    schemas = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ua-vp",
            "version": version,
            "description": "Hand missions to worker lanes. Enumerations are open sets: tolerate new values and fields.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(routes: Sequence[Route]) -> dict[str, Any]:
    requests = {route.request for route in routes if route.request is not None}
    queries = {route.query for route in routes}
    answers = {route.answer for route in routes if route.answer is not None} | {Problem}
    wanted: list[tuple[type[BaseModel], Any]] = [
        *((model, "validation") for model in sorted(requests | queries, key=lambda model: model.__name__)),
        *((model, "serialization") for model in sorted(answers, key=lambda model: model.__name__)),
    ]
    _, found = models_json_schema(wanted, ref_template=REFERENCE)
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": route.summary,
        "parameters": [*_in_path(route), *_in_query(route, schemas), *_in_headers(route)],
        "responses": _responses(route),
    }
    if route.request is not None:
        content = {JSON: {"schema": _reference(route.request)}}
        operation["requestBody"] = {"required": route.body_needed, "content": content}
    if route.scope is not None:
        operation["security"] = [{"token": [route.scope.value]}]
        operation["x-scope"] = route.scope.value
    return operation


def _in_path(route: Route) -> list[dict[str, Any]]:
    names = _PATH_PARAMETER.findall(route.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(route: Route, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    properties: dict[str, Any] = schemas[route.query.__name__].get("properties", {})
    return [
        {"name": name, "in": "query", "style": "form", "explode": False, "schema": schema}
        for name, schema in properties.items()
    ]


def _in_headers(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]


def _responses(route: Route) -> dict[str, Any]:
    content = {
        media_type: {"schema": _reference(route.answer)} if route.answer is not None and media_type == JSON else {}
        for media_type in route.media_types
    }
    responses: dict[str, Any] = {str(route.status): {"description": route.summary, "content": content}}
    for status, text in route.also.items():
        responses[str(status)] = {"description": text} | ({"content": content} if status == 200 else {})
    for status, codes in sorted(_codes(route).items()):
        responses[str(status)] = {
            "description": ", ".join(codes),
            "content": {problems.MEDIA_TYPE: {"schema": _reference(Problem)}},
        }
    responses["default"] = {
        "description": "Any other error",
        "content": {problems.MEDIA_TYPE: {"schema": _reference(Problem)}},
    }
    return responses


def _codes(route: Route) -> dict[int, list[str]]:
    """The codes that the route may answer, by HTTP status."""
    possible = [*EVERYWHERE, *route.codes]
    possible += WITH_TOKEN if route.scope is not None else ()
    possible += WITH_BODY if route.request is not None else ()
    found: dict[int, list[str]] = {}
    for error in possible:
        listed = found.setdefault(problems.STATUS[error.code], [])
        if error.code not in listed:
            listed.append(error.code)
    return found


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}
