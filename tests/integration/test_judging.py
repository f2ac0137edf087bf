"""The API judges the plugins once it runs, whatever its ledger is doing at that moment."""

import os
from pathlib import Path

import pytest

from ua_vp import compose, host
from ua_vp.errors import LedgerBusyError
from ua_vp.ledger import Ledger, lanes, open_ledger
from ua_vp.runtime import real_ports
from ua_vp.settings import load


def test_verdicts_are_offered_until_the_ledger_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports, settings = real_ports(os.environ), load({"UA_VP_HOME": str(tmp_path)})
    ledger = open_ledger(tmp_path / "vp_state.db", ports=ports)
    judged, run, tries = ports.threads.signal(), Ledger.run, 0

    def busy_at_first(self: Ledger, step: object) -> object:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LedgerBusyError("the ledger is locked by another process; try again")
        return run(self, step)  # type: ignore[arg-type]  # whatever Step it is

    monkeypatch.setattr(Ledger, "run", busy_at_first)
    monkeypatch.setattr(compose, "JUDGE_AGAIN_SECONDS", 0.0)
    compose._judge(ledger, ports, settings, os.environ, judged)
    assert judged.is_set()
    found = {plugin.verdict.entry_point for plugin in ledger.read(lanes.list_plugins)}
    assert found == {plugin.entry_point for plugin in host.find_installed()}
    ledger.close()
