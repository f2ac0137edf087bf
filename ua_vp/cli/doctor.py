"""`ua-vp doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from ua_vp.cli import findings, tables, text
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.cli.findings import Finding, Weight
from ua_vp.errors import VpError
from ua_vp.settings import Settings


def doctor(*, as_json: AsJson = False, console: Here) -> int:
    """Look at settings, home, ledger, kernel, plugins, API and workers; exit code 8 if anything is at fault."""
    found = list(look(console))
    faults = [finding for finding in found if finding.weight is Weight.FAULT]
    if as_json:
        told = [
            {"subject": one.subject, "weight": one.weight, "detail": one.detail, "remedy": one.remedy} for one in found
        ]
        console.json({"healthy": not faults, "findings": told})
    else:
        _print(found, console)
    return Exit.DOCTOR_FAULT if faults else Exit.DONE


def look(console: Console) -> Iterator[Finding]:
    """Every finding, from the settings outwards; what cannot be looked at without settings is left out."""
    try:
        settings = console.settings()
    except VpError as error:
        yield findings.fault("settings", error.detail)
        return
    there = settings.config.exists()
    where = (
        str(settings.config) if there else f"defaults; {settings.config} is not there, the first `ua-vp up` writes it"
    )
    yield findings.ok("settings", where)
    yield from findings.safely("settings", lambda: findings.strangers(settings))
    yield from findings.safely("home", lambda: findings.home(settings))
    yield from findings.safely("machine", lambda: findings.machine(console.environ, settings.home))
    yield from findings.safely("ledger", lambda: findings.ledger(settings, console))
    yield from findings.safely("sandbox", lambda: findings.sandbox(settings))
    yield from _running(settings, console)


def _running(settings: Settings, console: Console) -> Iterator[Finding]:
    """What runs now; without an API the plugins are probed from here."""
    if not settings.ops_file.exists() and not console.environ.get("UA_VP_URL"):
        yield findings.note("api", f"none runs from {settings.home}", "`ua-vp up` starts everything")
        yield from findings.safely("plugins", lambda: findings.probed(settings, console.environ))
        return
    try:
        client = console.client()
        with client:
            reached = list(findings.api(client))
            yield from reached
            if reached[0].weight is Weight.OK:
                answer = client.lanes()
                yield from findings.plugins_of(answer)
                yield from findings.workers(client, answer)
                return
    except VpError as error:
        yield findings.fault("api", error.detail)
    yield from findings.safely("plugins", lambda: findings.probed(settings, console.environ))


def _print(found: list[Finding], console: Console) -> None:
    rows = [(finding.weight.upper(), finding.subject, finding.detail) for finding in found]
    headings, *lines = tables.columns(("", "subject", "finding"), rows)
    console.data(headings)
    for line, finding in zip(lines, found, strict=True):
        console.data(line)
        if finding.remedy:
            console.data(f"       remedy: {text.line(finding.remedy)}")
