"""Errors as the API says them: one table, one shape."""

import json

import pytest
from starlette.responses import Response

from ua_vp import errors
from ua_vp.errors import FieldFault, VpError
from ua_vp.ops.problems import STATUS, problem_response


def body(response: Response) -> dict[str, object]:
    return dict(json.loads(bytes(response.body)))


def classes(base: type[VpError] = VpError) -> list[type[VpError]]:
    """Those of `ua_vp.errors`, whatever else was imported before."""
    own = [kind for kind in base.__subclasses__() if kind.__module__ == VpError.__module__]
    return [base, *(found for kind in own for found in classes(kind))]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_product_is_said_as_a_problem(kind: type[VpError]) -> None:
    response = problem_response(kind("what and what to do"), request_id="r1")

    said = body(response)
    assert response.media_type == "application/problem+json"
    assert said["code"] == (kind.code if kind.code in STATUS else "internal_error")
    assert said["status"] == response.status_code == STATUS[str(said["code"])]
    assert (said["detail"], said["request_id"], said["retryable"]) == ("what and what to do", "r1", kind.retryable)
    assert ("retry-after" in response.headers) == (response.status_code in {429, 503})


def test_faults_and_the_mission_are_in_it() -> None:
    error = errors.ValidationError("x", faults=[FieldFault(pointer="#/objective", detail="is needed")], mission_id="m")

    said = body(problem_response(error, request_id="r1", more={"ready": False}))

    assert said["errors"] == [{"pointer": "#/objective", "detail": "is needed"}]
    assert (said["mission_id"], said["ready"]) == ("m", False)


def test_a_stranger_learns_which_scheme_is_needed() -> None:
    response = problem_response(errors.UnauthorizedError("x"), request_id="r1")

    assert response.headers["www-authenticate"] == 'Bearer realm="ua-vp"'
