"""One Markdown page as GitHub reads it: its links, anchors and code blocks, each with its line."""

import html
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, autolink, html_inline, image, link
from markdown_it.token import Token

InlineRule = Callable[[StateInline, bool], bool]

_FRONT_MATTER = re.compile(r"---[ \t]*\n[\w-]+[ \t]*:[\s\S]*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
# One pass each, no nested repetition: pages come from strangers.
_COMMENT = re.compile(r"<!--[\s\S]*?(?:-->|\Z)")
_TAG = re.compile(r"<(?P<slash>/?)(?P<name>[A-Za-z][A-Za-z0-9-]*)(?P<attributes>[^<>]*)>")
_ATTRIBUTE = re.compile(r"""(?<![\w:-])(id|name|href|src|srcset)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link or image; `by_reference` if its target stands in a definition elsewhere on the page."""

    line: int
    target: str
    is_image: bool = False
    by_reference: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Undefined:
    """A `[text][label]` whose label is defined nowhere on the page."""

    line: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeBlock:
    """A code block; `line` is that of its first line of code, `language` is lower case or empty."""

    line: int
    language: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a page says, in the order it says it."""

    anchors: frozenset[str]
    links: tuple[Link, ...]
    undefined: tuple[Undefined, ...]
    code_blocks: tuple[CodeBlock, ...]


def parse(text: str) -> Page:
    """Read a page; never fails, as no text is wrong Markdown."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    tokens = _parser().parse(_without_front_matter(text))
    links: list[Link] = []
    undefined: list[Undefined] = []
    for token in tokens:
        if token.type == "html_block":
            links += _html_links(token.content, _first_line(token))
        for line, child in _placed_children(token):
            if child.type == "undefined_reference":
                undefined.append(Undefined(line=line, label=child.content))
            else:
                links += _links_of(child, line)
    return Page(
        anchors=frozenset(_anchors(tokens)),
        links=tuple(links),
        undefined=tuple(undefined),
        code_blocks=tuple(_code_blocks(tokens)),
    )


# --- the parser ---


def _parser() -> MarkdownIt:
    """CommonMark with GitHub's tables, taught to say where in its block an inline token began."""
    parser = MarkdownIt("commonmark", {"store_labels": True}).enable(["table", "strikethrough"])
    for rule in (link, image, autolink, html_inline):
        parser.inline.ruler.at(rule.__name__, _located(rule))
    parser.inline.ruler.after("image", "undefined_reference", _undefined_reference)
    return parser


def _located(rule: InlineRule) -> InlineRule:
    """An inline rule that also writes into its tokens' `meta["at"]` where in the block it matched."""

    def located(state: StateInline, silent: bool) -> bool:
        start, already_there = state.pos, len(state.tokens)
        matched = rule(state, silent)
        for token in state.tokens[already_there:]:
            token.meta.setdefault("at", start)
        return matched

    return located


def _undefined_reference(state: StateInline, silent: bool) -> bool:
    """Mark the `[` of a `[text][label]` that the rules for links and images refused; it stays text."""
    if silent or state.linkLevel or state.src[state.pos] != "[" or state.src[state.pos - 1 : state.pos].isalnum():
        return False
    label = _reference_label(state)
    if not label or label.startswith("^"):
        return False
    token = state.push("undefined_reference", "", 0)
    token.content = label
    token.meta["at"] = state.pos
    state.pending += "["
    state.pos += 1
    return True


def _reference_label(state: StateInline) -> str:
    """Give the label of the `[text][label]` or `[label][]` at the current position; empty if it is none."""
    text_end = state.md.helpers.parseLinkLabel(state, state.pos)
    if text_end < 0 or state.src[text_end + 1 : text_end + 2] != "[":
        return ""
    label_end = state.md.helpers.parseLinkLabel(state, text_end + 1)
    if label_end < 0 or state.src[label_end + 1 : label_end + 2] in {"[", "("}:
        return ""
    text, label = state.src[state.pos + 1 : text_end], state.src[text_end + 2 : label_end]
    return " ".join((label.strip() or text).split())


def _without_front_matter(text: str) -> str:
    """Empty the lines of YAML front matter, which is no Markdown, and keep all line numbers."""
    match = _FRONT_MATTER.match(text)
    return "\n" * match[0].count("\n") + text[match.end() :] if match else text


# --- links ---


def _placed_children(token: Token) -> Iterator[tuple[int, Token]]:
    """Give the inline tokens of a block that know where they began, each with its line in the page."""
    line_ends = _line_ends(token.content)
    for child in token.children or ():
        if "at" in child.meta:
            yield _first_line(token) + bisect_left(line_ends, child.meta["at"]), child


def _line_ends(text: str) -> list[int]:
    return [match.start() for match in re.finditer("\n", text)]


def _first_line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 1


def _links_of(token: Token, line: int) -> list[Link]:
    label = str(token.meta.get("label", ""))
    if label.startswith("^"):  # GitHub's footnotes look like references
        return []
    if token.type == "link_open":
        return [Link(line=line, target=str(token.attrGet("href") or ""), by_reference=bool(label))]
    if token.type == "image":
        target = str(token.attrGet("src") or "")
        return [Link(line=line, target=target, is_image=True, by_reference=bool(label))]
    return _html_links(token.content, line) if token.type == "html_inline" else []


def _html_links(content: str, first_line: int) -> list[Link]:
    """Give what `<a href>`, `<img src>` and `<source srcset>` name."""
    links, line_ends = [], _line_ends(content)
    for tag in _tags(content):
        line = first_line + bisect_left(line_ends, tag.start)
        for name, is_image in (("href", False), ("src", True), ("srcset", True)):
            if name in tag.attributes and tag.name in {"a", "img", "source"}:
                value = tag.attributes[name]
                targets = (
                    [part.split()[0] for part in value.split(",") if part.split()] if name == "srcset" else [value]
                )
                links += [Link(line=line, target=target, is_image=is_image) for target in targets]
    return links


# --- anchors ---


def slug(heading: str) -> str:
    r"""Turn a heading into its anchor by GitHub's rule: lower case, words and hyphens stay, blanks become hyphens.

    Source: the table of contents filter of html-pipeline, which drops all but `\p{Word}`, hyphen and blank.
    """
    kept = (character for character in heading.lower() if character in "- " or _is_word(character))
    return "".join(kept).replace(" ", "-")


def _is_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category in {"Nd", "Nl", "Pc"}


def _anchors(tokens: list[Token]) -> Iterator[str]:
    """Give every anchor of a page: headings, numbered where they repeat, and every `id` or `name` in HTML."""
    seen: Counter[str] = Counter()
    for token, following in zip_longest(tokens, tokens[1:]):
        headings: list[str] = []
        if token.type == "heading_open" and following:
            headings = [_plain_text(following)]
        elif token.type == "html_block":
            headings = _html_headings(token.content)
            yield from _explicit(token.content)
        for child in token.children or ():
            if child.type == "html_inline":
                yield from _explicit(child.content)
        for heading in headings:
            yield _numbered(slug(heading), seen)


def _numbered(base: str, seen: Counter[str]) -> str:
    """Give a heading its own anchor: `name`, `name-1`, `name-2`, passing over what another heading already took."""
    anchor = base
    while anchor in seen:
        seen[base] += 1
        anchor = f"{base}-{seen[base]}"
    seen[anchor] = 0
    return anchor


def _explicit(content: str) -> Iterator[str]:
    for tag in _tags(content):
        yield from (tag.attributes[name] for name in ("id", "name") if tag.attributes.get(name))


def _plain_text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or () if child.type in {"text", "code_inline"})


def _html_headings(content: str) -> list[str]:
    """Give the text of every `<h1>` to `<h6>` of an HTML block, in one pass."""
    headings, start = [], -1
    for tag in _tags(content):
        if tag.name in {"h1", "h2", "h3", "h4", "h5", "h6"}:
            if not tag.is_end:
                start = tag.end
            elif start >= 0:
                text = _TAG.sub("", content[start : tag.start])
                headings.append(" ".join(html.unescape(text).split()))
                start = -1
    return headings


# --- HTML, as much of it as pages use ---


@dataclass(frozen=True, kw_only=True, slots=True)
class _HtmlTag:
    name: str
    attributes: dict[str, str]
    is_end: bool
    start: int
    end: int


def _tags(content: str) -> Iterator[_HtmlTag]:
    """Give the tags outside comments."""
    without_comments = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), content)
    for match in _TAG.finditer(without_comments):
        attributes: dict[str, str] = {}
        for name, value in _ATTRIBUTE.findall(match["attributes"]):
            attributes.setdefault(name.lower(), html.unescape(value.strip("\"'")).strip())
        yield _HtmlTag(
            name=match["name"].lower(),
            attributes=attributes,
            is_end=bool(match["slash"]),
            start=match.start(),
            end=match.end(),
        )


# --- code ---


def _code_blocks(tokens: list[Token]) -> Iterator[CodeBlock]:
    for token in tokens:
        if token.type == "fence":
            words = token.info.strip().strip("{}.").replace(",", " ").split()
            language = words[0].lower() if words else ""
            yield CodeBlock(line=_first_line(token) + 1, language=language, text=token.content)
        elif token.type == "code_block":
            yield CodeBlock(line=_first_line(token), language="", text=token.content)
