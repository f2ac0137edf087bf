"""Reading the API's errors in tests."""

import httpx2


def problem(response: httpx2.Response) -> tuple[int, str, list[str]]:
    """(status, code, pointers) of an error, once it is known to be a whole problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "status", "code", "detail", "retryable", "errors"} <= body.keys()
    assert body["status"] == response.status_code
    return response.status_code, body["code"], [fault["pointer"] for fault in body["errors"]]


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """(status, code) of an error."""
    return problem(response)[:2]
