"""Whether the links of a checkout's pages lead somewhere, and whether every page can be reached."""

import difflib
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ua_vp_general.checkout import MARKDOWN, NowhereError, Place, locate
from ua_vp_general.findings import Check, Tally
from ua_vp_general.markdown import Link, Page

_EXTERNAL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:|//)")
_LINES_OF_A_FILE = re.compile(r"L\d+(?:C\d+)?(?:-L\d+(?:C\d+)?)?")
_READ_BY_GITHUB = ".github/"


@dataclass(frozen=True, kw_only=True)
class LinkCheck:
    """The checks of links over all pages; `run` fills the tallies and the graph."""

    root: Path
    pages: Mapping[str, Page]
    links: Tally = field(default_factory=lambda: Tally(check=Check.LINKS))
    anchors: Tally = field(default_factory=lambda: Tally(check=Check.ANCHORS))
    images: Tally = field(default_factory=lambda: Tally(check=Check.IMAGES))
    references: Tally = field(default_factory=lambda: Tally(check=Check.REFERENCES))
    graph: dict[str, set[str]] = field(default_factory=dict)
    """Page to pages it links to."""

    def run(self) -> tuple[Tally, ...]:
        """Check every link, image, anchor and reference of every page."""
        for name, page in self.pages.items():
            self.graph[name] = set()
            for link in page.links:
                self._check_link(name, link)
            self.references.passed += sum(link.by_reference for link in page.links)
            for undefined in page.undefined:
                message = "the label is defined nowhere on the page"
                self.references.found(name, undefined.line, subject=f"[{undefined.label}]", message=message)
        return self.links, self.anchors, self.images, self.references

    def _check_link(self, name: str, link: Link) -> None:
        tally = self.images if link.is_image else self.links
        if _EXTERNAL.match(link.target):
            tally.left_out["lead to other hosts or schemes"] += 1
            return
        path, _, fragment = link.target.partition("#")
        place = self._follow(name, link, path.partition("?")[0], tally)
        if place is None or link.is_image:
            return
        self.graph[name].update(self._pages_at(place))
        if fragment:
            self._check_anchor(name, link, place, _decoded(fragment))

    def _follow(self, name: str, link: Link, path: str, tally: Tally) -> Place | None:
        """Give what a relative link leads to; an anchor alone leads to its own page and is no relative link."""
        if not path and link.target:
            return Place(path=name, is_folder=False)
        try:
            place = self._target(name, path)
            if link.is_image and place.is_folder:
                raise NowhereError("a folder, not an image")
        except NowhereError as error:
            tally.found(name, link.line, subject=link.target, message=str(error))
            return None
        tally.passed += 1
        return place

    def _target(self, name: str, path: str) -> Place:
        """Find what a path written in the page `name` means: below the page's folder, or with `/` below the root.

        Raises:
            NowhereError: nothing is there.
        """
        if not path:
            raise NowhereError("the link has no target")
        decoded = _decoded(path)
        from_root = decoded.startswith("/")
        base = "" if from_root else posixpath.dirname(name)
        return locate(self.root, posixpath.join(base, decoded.lstrip("/") if from_root else decoded) or ".")

    def _check_anchor(self, name: str, link: Link, place: Place, fragment: str) -> None:
        readme = _readme_of(self.pages, place.path) if place.is_folder else place.path
        page = self.pages.get(readme or "")
        if page is None:
            is_lines = _LINES_OF_A_FILE.fullmatch(fragment) and not place.is_folder
            reason = "name lines of a file" if is_lines else "lead into files that are no page of this check"
            self.anchors.left_out[reason] += 1
        elif fragment in page.anchors or fragment == "top":
            self.anchors.passed += 1
        else:
            near = difflib.get_close_matches(fragment.lower(), sorted(page.anchors), n=1)
            hint = f"; the nearest is #{near[0]}" if near else ""
            message = f"no heading or id of that name in {readme}{hint}"
            self.anchors.found(name, link.line, subject=link.target, message=message)

    def _pages_at(self, place: Place) -> Iterator[str]:
        """Give the pages that one sees after following a link: a folder shows its README, else its list of files."""
        if not place.is_folder:
            yield from {place.path} & self.pages.keys()
            return
        readme = _readme_of(self.pages, place.path)
        yield from [readme] if readme else _pages_in(self.pages, place.path)


def check_reachable(pages: Mapping[str, Page], graph: Mapping[str, set[str]]) -> Tally:
    """Report every page to which no chain of links leads from the README at the top."""
    tally = Tally(check=Check.REACHABLE)
    start = _readme_of(pages, ".")
    if start is None:
        if pages:
            tally.left_out["not checked: there is no README at the top of the checkout"] += len(pages)
        return tally
    reached, waiting = {start}, [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    for name in pages:
        if name in reached:
            tally.passed += 1
        elif name.startswith(_READ_BY_GITHUB):
            tally.left_out["lie in .github, where GitHub itself shows them"] += 1
        else:
            tally.found(name, None, subject=name, message=f"orphaned: no chain of links leads here from {start}")
    return tally


def _decoded(part: str) -> str:
    """Undo percent-encoding into the name a file system would give, also where that is not UTF-8."""
    return os.fsdecode(unquote_to_bytes(part))


def _readme_of(pages: Mapping[str, Page], folder: str) -> str | None:
    names = {f"readme{ending}" for ending in MARKDOWN}
    return next((page for page in _pages_in(pages, folder) if posixpath.basename(page).lower() in names), None)


def _pages_in(pages: Mapping[str, Page], folder: str) -> list[str]:
    return sorted(page for page in pages if (posixpath.dirname(page) or ".") == folder)
