"""The reference says what the product says of itself."""

import pytest

from tests.docs.pages import ROOT
from tests.docs.reference import EVENTS, EXITS, GENERATED, renewed
from ua_vp.cli.exits import Exit
from ua_vp.events import EventType


@pytest.mark.parametrize("page", GENERATED)
def test_the_generated_part_of_a_page_is_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == renewed(ROOT / page, "".join(GENERATED[page]())), (
        "./dev run python -m tests.docs.reference writes it"
    )


def test_every_event_and_every_exit_code_is_explained() -> None:
    assert EVENTS.keys() == set(EventType)
    assert EXITS.keys() == set(Exit)
