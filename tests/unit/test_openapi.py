"""The OpenAPI document: made from the records, whole, and true to them."""

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from ua_vp.ops import openapi, problems
from ua_vp.ops.app import ROUTES

DOCUMENT = openapi.document(ROUTES, version="0.1.0")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_every_route_is_in_it_once() -> None:
    assert len(list(operations())) == len(ROUTES)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_to_a_schema_and_every_schema_is_one() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for reference in references(DOCUMENT):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def test_every_path_parameter_is_declared() -> None:
    for path, _, operation in operations():
        declared = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert all(f"{{{name}}}" in path for name in declared)
        assert path.count("{") == len(declared)
        names = [(parameter["in"], parameter["name"]) for parameter in operation["parameters"]]
        assert len(set(names)) == len(names)


def test_scopes_are_said_and_four_routes_have_none() -> None:
    open_paths = {path for path, _, operation in operations() if "security" not in operation}
    assert open_paths == {"/livez", "/readyz", "/api/v1/version", "/openapi.json"}
    for _, _, operation in operations():
        assert operation.get("security") in ([{"token": [operation.get("x-scope")]}], None)


def test_every_error_is_a_problem() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            if status == "default" or int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
        assert {"200", "201", "202"} & operation["responses"].keys()


def test_every_code_of_the_contract_has_its_status() -> None:
    told = """400 validation_error 401 unauthorized 403 forbidden 404 not_found 405 method_not_allowed 406 not_acceptable
    409 idempotency_conflict 409 already_terminal 409 invalid_state 409 route_mismatch 409 turn_closed 409 retry_limit
    410 cursor_expired 412 precondition_failed 413 too_large 415 unsupported_media_type 422 guardrail_violation
    429 rate_limited 500 internal_error 421 host_refused 503 ledger_busy 503 ledger_gone 503 lane_unavailable
    507 disk_full""".split()
    assert {code: int(status) for status, code in zip(told[::2], told[1::2], strict=True)} == problems.STATUS


def test_it_is_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
