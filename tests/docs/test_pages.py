"""What the documentation shows is true: commands run, code parses, links lead somewhere."""

import ast
import json
import re
import runpy
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.instance import Instance
from tests.docs.pages import ELSEWHERE, ROOT, Block, blocks, commands, missing, pages, tokens

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = [page for page in PAGES if any(block.tag == "console" for block in blocks(page))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=name)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    with Instance(tmp_path) as instance:
        for block in blocks(page):
            if block.directive == ("append", "ua-vp.toml"):
                instance.append(block.text)
            for command in commands(block) if block.tag == "console" else ():
                if command.text not in ELSEWHERE:
                    instance.run(command)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_is_what_its_tag_says(block: Block) -> None:
    match block.tag:
        case "console":
            assert list(commands(block))
        case "python":
            ast.parse(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "json":
            json.loads(block.text)
        case _:
            assert block.tag == "text", f"{block.where}: tag {block.tag!r} is none of console python toml json text"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.directive], ids=lambda block: block.where)
def test_a_block_that_says_it_is_a_file_is_that_file(block: Block) -> None:
    assert block.directive is not None
    verb, target = block.directive
    if verb == "file":
        assert block.text == (ROOT / target).read_text(encoding="utf-8")
    else:
        assert (verb, target) == ("append", "ua-vp.toml")


def links(page: Path) -> list[str]:
    found = []
    for token in tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target and not re.match(r"[a-z]+:", str(target)):
                found.append(str(target))
    return found


def anchors(page: Path) -> set[str]:
    inline = [
        after for before, after in zip(tokens(page), tokens(page)[1:], strict=False) if before.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", one.content.lower()).replace(" ", "-") for one in inline}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name(page)}: {link}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            waiting += [(page.parent / unquote(link).partition("#")[0]).resolve() for link in links(page)]
    assert {name(page) for page in PAGES} - {name(page) for page in reached if page.is_relative_to(ROOT)} == set()


@pytest.mark.parametrize(
    ("shows", "output", "lacking"),
    [
        (("a … c", "…", "d"), "x\na b c\ny\nd", None),
        (("d", "a"), "a\nd", "a"),
        (("a  b",), " a b", None),
        (("a",), "ab", "a"),
        ((), "anything", None),
    ],
)
def test_what_is_shown_is_compared_in_order_with_gaps(shows: tuple[str, ...], output: str, lacking: str | None) -> None:
    assert missing(shows, output) == lacking


def test_every_test_that_the_reliability_page_names_is_there() -> None:
    page = (ROOT / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:acceptance|faults|integration)/[\w/]+\.py)::(\w+)`", page)
    assert named, "the page holds no figures; run ./dev soak --write"
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_whatever_a_test_counts_has_a_place_on_the_reliability_page() -> None:
    soak = runpy.run_path(str(ROOT / ".ci" / "soak.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    counting = [path for path, text in texts.items() if re.search(r"figures: Figures[,)\n]", text)]
    assert len(counting) > 20
    assert {path.name: soak["section_of"](f"{path.name}::a_test") for path in counting}
