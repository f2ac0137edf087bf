"""Which artifact stands first, what is owed, and what a name says of its type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ua_vp.mission import Artifact, Category
from ua_vp.workspace import media_type, missing, rank
from ua_vp.workspace.artifacts import category_of

PATHS = (
    "run.log",
    "supporting/z.txt",
    "work_products/b.md",
    "supporting/a.txt",
    "work_products/a/x",
    "work_products/c",
)


def artifact(path: str) -> Artifact:
    return Artifact(path=path, category=category_of(path), bytes=0, sha256="0" * 64)


def ranked(declared: list[str], paths: tuple[str, ...] = PATHS) -> list[str]:
    return [one.path for one in rank([artifact(path) for path in paths], declared)]


def test_what_the_lane_declared_comes_first_in_its_order_then_work_products_supporting_and_the_log() -> None:
    assert ranked(["work_products/c", "work_products/b.md"]) == [
        "work_products/c", "work_products/b.md", "work_products/a/x", "supporting/a.txt", "supporting/z.txt", "run.log",
    ]  # fmt: skip


def test_declared_twice_counts_where_it_stands_first() -> None:
    assert ranked(["work_products/c", "work_products/b.md", "work_products/c"])[:2] == [
        "work_products/c",
        "work_products/b.md",
    ]


@given(st.permutations(PATHS), st.lists(st.sampled_from(PATHS)))
def test_the_rank_depends_on_no_order_of_finding_and_loses_nothing(paths: list[str], declared: list[str]) -> None:
    assert ranked(declared, tuple(paths)) == ranked(declared)
    assert sorted(ranked(declared)) == sorted(PATHS)


@pytest.mark.parametrize(
    ("pattern", "satisfied"),
    [
        ("work_products/**", True),
        ("work_products/*", True),
        ("work_products/*.md", True),
        ("work_products/x", False),
        ("work_products/**/x", True),
        ("**/a.txt", True),
        ("**", True),
        ("*", True),
        ("work_products", False),
        ("work_products/a", False),
        ("work_products/?.md", True),
        ("work_products/[ab].md", True),
        ("work_products/a/**", True),
        ("work_products/c/**", False),
        ("work_products/**/**/x", True),
        ("work_products/changes.patch", False),
    ],
)
def test_a_pattern_that_is_owed_is_satisfied_by_a_file(pattern: str, satisfied: bool) -> None:
    assert missing([artifact(path) for path in PATHS], [pattern]) == ([] if satisfied else [pattern])


def test_a_supporting_file_is_no_work_product() -> None:
    assert missing([artifact("supporting/a"), artifact("run.log")], ["work_products/**"]) == ["work_products/**"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("work_products/report.md", "text/markdown"),
        ("work_products/REPORT.MD", "text/markdown"),
        ("work_products/changes.patch", "text/x-diff"),
        ("work_products/a.csv", "text/csv"),
        ("work_products/a.tar.gz", "application/gzip"),
        ("work_products/a.svg", "image/svg+xml"),
        ("work_products/noending", "application/octet-stream"),
        ("work_products/data:text/html,x", "application/octet-stream"),
        ("work_products/.md", "application/octet-stream"),
        ("run.log", "text/plain"),
    ],
)
def test_the_media_type_is_what_the_name_suggests(path: str, expected: str) -> None:
    assert media_type(path) == expected


def test_the_category_follows_from_the_place() -> None:
    places = {"work_products/a": Category.PRIMARY, "supporting/a": Category.SUPPORTING, "run.log": Category.SUPPORTING}
    assert {path: category_of(path) for path in places} == places
    assert category_of("mission_receipt.json") is category_of("sync_ready.json") is Category.MARKER
