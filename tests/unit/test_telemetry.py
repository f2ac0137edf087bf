"""Logs: one JSON object a line, stamped by the port's clock, without secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ua_vp import telemetry
from ua_vp.testing import World


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_line_is_json_with_time_level_and_name_and_hides_secrets() -> None:
    stream = io.StringIO()
    telemetry.set_up(stream, clock=World(1).ports.clock, json=True)

    structlog.get_logger("ua_vp.test").warning("something", token="t0p", path="/x")
    logging.getLogger("uvicorn.error").error("from %s", "elsewhere")
    structlog.get_logger("ua_vp.test").debug("too fine")

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["token"], first["path"]) == ("something", "warning", "[hidden]", "/x")
    assert first["logger"] == "ua_vp.test"
    assert first["at"].endswith("Z")
    assert (second["event"], second["logger"]) == ("from elsewhere", "uvicorn.error")


def test_an_exception_is_one_line_too() -> None:
    stream = io.StringIO()
    telemetry.set_up(stream, clock=World(1).ports.clock, json=True)

    structlog.get_logger("ua_vp.test").error("failed", exc_info=ValueError("why"))

    (line,) = stream.getvalue().splitlines()
    assert "ValueError: why" in json.loads(line)["exception"]


def test_for_people_it_is_text() -> None:
    stream = io.StringIO()
    telemetry.set_up(stream, clock=World(1).ports.clock, json=False)

    structlog.get_logger("ua_vp.test").info("started", port=8790)

    assert "started" in stream.getvalue()
    assert "port=8790" in stream.getvalue()
