"""Exit codes: the contract's numbers, for every error and every end."""

import pytest

from ua_vp import errors
from ua_vp.cli import exits
from ua_vp.cli.exits import Exit
from ua_vp.errors import VpError
from ua_vp.ops.problems import STATUS

BY_STATUS = {401: 6, 403: 6, 404: 4, 409: 5, 422: 9, 429: 9, 503: 9, 507: 9, 400: 2}


def test_the_numbers_are_the_contracts() -> None:
    assert {one.name: one.value for one in Exit} == {
        "DONE": 0,
        "MISSION_FAILED": 1,
        "USAGE": 2,
        "CANCELLED": 3,
        "NOT_FOUND": 4,
        "CONFLICT": 5,
        "AUTH": 6,
        "UNREACHABLE": 7,
        "DOCTOR_FAULT": 8,
        "REFUSED": 9,
        "DIFFERENCE": 10,
        "TIMED_OUT": 124,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize("code", STATUS)
def test_every_error_of_the_api_has_the_exit_code_of_its_status(code: str) -> None:
    assert code in exits.OF_CODE
    status = STATUS[code]
    if status in BY_STATUS:
        assert exits.OF_CODE[code] == BY_STATUS[status]


def test_an_error_that_nobody_knows_yet_is_no_answer() -> None:
    newer = type("NewerError", (VpError,), {"code": "from_the_future"})
    assert exits.of_error(newer("x")) is Exit.UNREACHABLE
    assert exits.of_error(errors.UnreachableError("x")) is Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["completed"], 0),
        (["completed", "failed", "cancelled"], 1),
        (["completed", "cancelled"], 3),
        (["failed", None], 124),
        (["completed", "running"], 124),
    ],
)
def test_several_missions_end_as_the_worst_of_them(statuses: list[str | None], code: int) -> None:
    assert exits.of_missions(statuses) == code
