"""What reaches a terminal, how columns line up, how numbers read."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ua_vp.cli import tables, text, words

ANYTHING = st.text(st.characters())  # lone surrogates too
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(ANYTHING)
def test_a_line_holds_nothing_that_steers_a_terminal(given: str) -> None:
    assert not [one for one in text.line(given) if unicodedata.category(one) in STEERING]


@given(ANYTHING)
def test_a_block_keeps_its_line_ends_and_nothing_else_that_steers(given: str) -> None:
    shown = text.block(given)
    assert text.is_tame(shown)
    assert shown.count("\n") == given.replace("\r\n", "\n").count("\n")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202etxt.exe", r"a\u202etxt.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\U000e0041", r"\U000e0041"),
        ("\udcff", r"\udcff"),
        ("bell\x07", r"bell\x07"),
        ("żółć 日本 e\u0301", "żółć 日本 e\u0301"),
    ],
)
def test_what_steers_is_shown_and_what_is_harmless_stays(hostile: str, shown: str) -> None:
    assert text.line(hostile) == shown
    assert text.block(hostile) == shown


def test_a_line_is_one_line_and_no_longer_than_asked() -> None:
    assert text.line("a\n b\t\tc") == "a b c"
    assert text.line("abcdef", 4) == "abc…"
    assert text.line("abcd", 4) == "abcd"


def test_columns_line_up_and_only_a_terminal_cuts() -> None:
    rows = [("日本", "x" * 50), ("a", "y\nz")]
    assert list(tables.columns(("name", "what"), rows)) == ["NAME  WHAT", "日本  " + "x" * 50, "a     y z"]
    cut = list(tables.columns(("name", "what"), rows, width=12))
    assert cut[1] == "日本  xxxxx…"
    assert {tables.wide(line) for line in cut[1:2]} == {12}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.44, "0.4 s"), (12.9, "12 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (86400, "1 d")],
)
def test_lengths_of_time_are_short(value: float | None, shown: str) -> None:
    assert words.seconds(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(17, "17 B"), (2100, "2.1 kB"), (3_000_000, "3.0 MB"), (10**13, "10000.0 GB")]
)
def test_sizes_are_short(count: int, shown: str) -> None:
    assert words.size(count) == shown
