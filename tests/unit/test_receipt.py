"""The receipt and the marker as text: what the schemas say, and back again."""

import hashlib
import json
from dataclasses import fields, replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workspaces import COMPLETED_AT, MISSION_ID, VP_ID, claim
from ua_vp.errors import WorkspaceError
from ua_vp.mission import Artifact, Category, Ending, FailureMode, Status
from ua_vp.workspace import (
    CredentialUse,
    ExecutorUse,
    LaidInput,
    LeftOut,
    Receipt,
    SandboxUse,
    receipt_for,
    receipt_schema,
    sync_ready_schema,
)
from ua_vp.workspace.marker import marker_bytes

SHA = hashlib.sha256(b"").hexdigest()
CONTRACT = """version mission_id vp_id status mission_type objective attempt worker_id host build result_ref source_session_id
    source_turn_id reply_mode created_at started_at completed_at summary failure_mode cancel_reason sandbox executor
    credentials inputs artifacts""".split()


def check(value: object, schema: object) -> None:
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER  # type: ignore[arg-type]  # a JSON object
    ).validate(value)  # fmt: skip


def full() -> Receipt:
    artifacts = (
        Artifact(path="work_products/a", category=Category.PRIMARY, bytes=0, sha256=SHA, media_type="text/plain"),
    )
    return receipt_for(
        claim(3), Ending(status=Status.COMPLETED, summary="done", artifacts=artifacts),
        completed_at=COMPLETED_AT, host="h", build="b", result_ref=f"workspace:///srv/{MISSION_ID}",
        sandbox=SandboxUse(gaps=("chmod",)), executor=ExecutorUse(name="command", version="1"),
        credentials=(CredentialUse(name="key", fingerprint="f"),), inputs=(LaidInput(path="in.txt", sha256=SHA),),
        left_out=(LeftOut(path="work_products/link", reason="symbolic link"),),
    )  # fmt: skip


def test_the_receipt_holds_every_field_of_the_contract_and_obeys_its_schema() -> None:
    value = json.loads(full().to_bytes())
    assert list(value) == [*CONTRACT, "left_out"]
    assert (value["completed_at"], value["attempt"]) == ("2026-01-01T00:00:00.123456Z", 3)
    check(value, receipt_schema())


def test_a_receipt_read_back_is_the_same() -> None:
    assert Receipt.from_bytes(full().to_bytes()) == full()
    assert Receipt.from_bytes(full().to_bytes()).sha256 == full().sha256


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Z", "C"))))
def test_any_text_survives_lone_surrogates_and_controls_too(text: str) -> None:
    receipt = replace(full(), objective=text, summary=text)
    again = Receipt.from_bytes(receipt.to_bytes())
    assert again == receipt
    receipt.to_bytes().decode("utf-8")


def test_what_a_newer_version_added_is_passed_over_and_its_hash_is_that_of_the_file() -> None:
    value = json.loads(full().to_bytes())
    value["version"] = 2
    value["novelty"] = True
    for entry in (value["artifacts"][0], value["sandbox"], value["inputs"][0], value["left_out"][0]):
        entry["novelty"] = 1
    data = json.dumps(value).encode()
    receipt = Receipt.from_bytes(data)
    assert receipt == replace(full(), version=2)
    assert receipt.sha256 == hashlib.sha256(data).hexdigest()
    check(value, receipt_schema())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"version": 1}', b"null", full().to_bytes()[:-200]])
def test_what_is_no_receipt_is_refused(data: bytes) -> None:
    with pytest.raises(WorkspaceError):
        Receipt.from_bytes(data)


def test_a_cancelled_mission_says_why_and_a_failed_one_how() -> None:
    for ending in (
        Ending(status=Status.CANCELLED, summary="s"),
        Ending(status=Status.CANCELLED, summary="s", cancel_reason="changed my mind"),
        Ending(status=Status.FAILED, summary="s", failure_mode=FailureMode.TIMEOUT),
    ):
        receipt = receipt_for(
            claim(1), ending, completed_at=COMPLETED_AT, host="h", build="b", result_ref="workspace:///x"
        )
        check(json.loads(receipt.to_bytes()), receipt_schema())
        assert receipt.cancel_reason in {"requested", "changed my mind", None}


@pytest.mark.parametrize("name", [*CONTRACT])
def test_the_schema_asks_for_every_field_of_the_contract(name: str) -> None:
    value = json.loads(full().to_bytes())
    del value[name]
    with pytest.raises(jsonschema.ValidationError):
        check(value, receipt_schema())


def test_the_marker_obeys_its_schema() -> None:
    for state in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
        data = marker_bytes(
            mission_id=MISSION_ID, vp_id=VP_ID, state=state, completed_at=COMPLETED_AT, receipt_sha256=SHA
        )
        value = json.loads(data)
        check(value, sync_ready_schema())
        assert value["completed_at_epoch"] == 1767225600.123456
        assert list(value) == "version mission_id vp_id state ready completed_at_epoch receipt_sha256".split()
        for change in ({"state": "running"}, {"ready": False}, {"receipt_sha256": "x"}, {"mission_id": "m"}):
            with pytest.raises(jsonschema.ValidationError):
                check({**value, **change}, sync_ready_schema())


def test_the_schemas_are_themselves_valid_and_describe_every_field() -> None:
    for schema in (receipt_schema(), sync_ready_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)
        properties = schema["properties"]
        assert isinstance(properties, dict)
        assert not [name for name, value in properties.items() if not value.get("description")]
    named = {each.name for each in fields(Receipt)} - {"read_sha256"}
    assert named == set(receipt_schema()["properties"])  # type: ignore[arg-type]  # a JSON object
