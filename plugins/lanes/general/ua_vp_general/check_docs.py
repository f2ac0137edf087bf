"""The recipe that checks the documentation of a checkout: `python -m ua_vp_general.check_docs ROOT`.

It reads Markdown and writes two files: `summary.md` into the mission's work products, `findings.json` beside its
notes. Findings are the result, so the exit status is 0 with and without them; 2 means there was nothing sensible to
look at, or no place to write, and nothing was written.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ua_vp_general.checkout import list_markdown, pages_tally, read_pages
from ua_vp_general.code_blocks import check_code
from ua_vp_general.findings import Tally
from ua_vp_general.links import LinkCheck, check_reachable
from ua_vp_general.markdown import parse
from ua_vp_general.report import Report, verdict, visible, write_report

BAD_INPUT = 2
NOT_WRITTEN = 1


class BadInputError(Exception):
    """What was handed in cannot be used; the message names it and the remedy."""


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the check for the command line and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ua_vp_general.check_docs", description="Check documentation.")
    parser.add_argument("root", metavar="ROOT", help="folder of the checkout whose Markdown is checked")
    try:
        root = _root(parser.parse_args(arguments).root)
        work_products = _folder(environment, "UA_VP_WORK_PRODUCTS", "work_products")
        supporting = _folder(environment, "UA_VP_SUPPORTING", "supporting")
    except BadInputError as error:
        return _complain(str(error), BAD_INPUT)
    report = check(root)
    try:
        write_report(report, work_products=work_products, supporting=supporting)
    except OSError as error:
        return _complain(f"{error.filename}: cannot be written: {error.strerror}", NOT_WRITTEN)
    _say("wrote summary.md and findings.json")
    return 0


def check(root: Path) -> Report:
    """Look at every page below `root`, a real path, saying on standard output how far it is."""
    listing, read = list_markdown(root), pages_tally()
    _say(f"found {len(listing.files)} Markdown files, taken from {listing.how}")
    pages = {name: parse(text) for name, text in read_pages(root, listing, read).items()}
    _progress((read,))
    link_check = LinkCheck(root=root, pages=pages)
    links = link_check.run()
    reachable = check_reachable(pages, link_check.graph)
    _progress((*links, reachable))
    code = check_code(pages)
    _progress(code)
    report = Report(root=root.name, how_listed=listing.how, pages=len(pages), tallies=(read, *links, reachable, *code))
    _say(verdict(report))
    return report


def _root(argument: str) -> Path:
    """Give the real path of the folder to check.

    Raises:
        BadInputError: it is no folder that can be read.
    """
    remedy = "name the folder of a checkout"
    try:
        root = Path(os.path.realpath(argument or "\0", strict=True))
        os.scandir(root).close()
    except NotADirectoryError:
        raise BadInputError(f"ROOT {visible(argument)!r} is not a folder: {remedy}") from None
    except PermissionError:
        raise BadInputError(f"ROOT {visible(argument)!r} cannot be read: give this user access, or {remedy}") from None
    except (OSError, ValueError):  # ValueError: a NUL in the name
        raise BadInputError(f"ROOT {visible(argument)!r} does not exist: {remedy}") from None
    return root


def _folder(environment: Mapping[str, str], variable: str, default: str) -> Path:
    """Give a folder of the mission to write to.

    Raises:
        BadInputError: it is not there or takes no files.
    """
    folder = Path(environment.get(variable) or default)
    if not folder.is_dir():
        raise BadInputError(f"{visible(str(folder))}: no such folder: make it, or name another in {variable}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInputError(f"{visible(str(folder))}: takes no files: give this user access, or set {variable}")
    return folder


def _progress(tallies: Sequence[Tally]) -> None:
    for tally in tallies:
        _say(f"{tally.check}: {tally.looked_at} looked at, {len(tally.findings)} findings")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"check_docs: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
