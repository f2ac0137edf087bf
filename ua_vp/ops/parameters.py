"""Query parameters, as strict about names as bodies are: unknown and repeated ones are refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ua_vp.control.asking import refuse
from ua_vp.control.parsing import validated
from ua_vp.mission import Category, Status
from ua_vp.wire import LONGEST_WAIT
from ua_vp.wire.requests import Text

LARGEST_SEQ = 2**63 - 1
_DIGITS = re.compile(r"-?[0-9]{1,19}")
_EVENT_TYPE = re.compile(r"vp\.[a-z]+\.[a-z_]+")


def _digits(value: Any) -> int:
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number, in digits")
    return int(value)


def _words(value: Any) -> Any:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _event_type(value: str) -> str:
    if not _EVENT_TYPE.fullmatch(value):
        raise ValueError("is no event type; they look like vp.mission.completed")
    return value


Whole = Annotated[int, BeforeValidator(_digits)]
Seq = Annotated[Whole, Field(ge=0, le=LARGEST_SEQ)]
Page = Annotated[Whole, Field(ge=1, le=500)]
Term = Annotated[Text, Field(min_length=1, max_length=1000)]
Statuses = Annotated[tuple[Status, ...], BeforeValidator(_words)]
EventTypes = Annotated[tuple[Annotated[str, AfterValidator(_event_type)], ...], BeforeValidator(_words)]


class Query(BaseModel):
    """Base of every route's query parameters; by itself: none are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MissionsQuery(Query):
    """Which missions."""

    vp_id: Term | None = Field(None, description="of this lane")
    status: Statuses = Field((), description="in one of these states, separated by commas")
    source_session_id: Term | None = Field(None, description="asked for by this session")
    q: Term | None = Field(None, description="with this text in it")
    limit: Page = Field(50, description="at most so many")
    cursor: Term | None = Field(None, description="`next_cursor` of the page before")


class WaitQuery(Query):
    """How long to wait."""

    timeout_seconds: Annotated[Whole, Field(ge=1, le=LONGEST_WAIT)] = Field(30, description="hold the answer so long")


class ArtifactsQuery(Query):
    """Which artifacts."""

    category: Category | None = Field(None, description="of this category; `marker`: receipt and marker")
    limit: Page = Field(100, description="at most so many")
    cursor: Term | None = Field(None, description="`next_cursor` of the page before")


class LogQuery(Query):
    """Which log, from where."""

    attempt: Annotated[Whole, Field(ge=1, le=LARGEST_SEQ)] | None = Field(None, description="default: the current one")
    offset: Seq = Field(0, description="bytes to leave out")


class EventsQuery(Query):
    """Which events."""

    after: Seq | None = Field(None, description="with a greater `seq`; without it the newest")
    mission_id: Term | None = Field(None, description="of this mission")
    vp_id: Term | None = Field(None, description="of this lane")
    source_session_id: Term | None = Field(None, description="of missions that this session asked for")
    type: EventTypes = Field((), description="of one of these types, separated by commas")
    limit: Page = Field(100, description="at most so many; a stream has no end")


class MetricsQuery(Query):
    """Figures of what."""

    vp_id: Term | None = Field(None, description="of this lane; default: all")


Q = TypeVar("Q", bound=Query)


def parse_query(model: type[Q], given: list[tuple[str, str]]) -> Q:
    """The parameters as `model`.

    Raises:
        ValidationError: an unknown or repeated name, or a wrong value.
    """
    values: dict[str, str] = {}
    for name, value in given:
        if name in values:
            raise refuse(f"#/{name[:100]}", "is given twice in the query")
        values[name] = value
    return validated(model, values)
