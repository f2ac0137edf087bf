"""Who may use which name: a lane id or alias belongs to the plugin that was recorded with it first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ua_vp.lane import Manifest, Verdict
from ua_vp.mission import lane_name


def settle_conflicts(
    verdicts: Sequence[Verdict], holders: Mapping[str, str], aliases: Mapping[str, Sequence[str]]
) -> list[Verdict]:
    """The verdicts, each plugin that claims a taken name turned into a degraded one that says whose it is.

    `holders` maps each recorded lane id to its plugin (`Verdict.plugin_id`), `aliases` to its aliases. A plugin that is no
    longer installed holds nothing; one that is installed but degraded holds what it had.
    """
    installed = {verdict.plugin_id for verdict in verdicts}
    owners: dict[str, tuple[str, str]] = {}
    for vp_id, plugin in holders.items():
        if plugin in installed:
            _take(owners, plugin, vp_id, aliases.get(vp_id, ()))
    return [_settle(verdict, owners) for verdict in verdicts]


def _settle(verdict: Verdict, owners: dict[str, tuple[str, str]]) -> Verdict:
    """One plugin; what it may have is entered into `owners`: word -> (plugin, lane id)."""
    mine: dict[str, tuple[str, str]] = {}
    for manifest in verdict.manifests:
        for word in _words_of(manifest):
            holder, vp_id = (mine.get(word) or owners.get(word)) or (verdict.plugin_id, manifest.info.vp_id)
            if (holder, vp_id) != (verdict.plugin_id, manifest.info.vp_id):
                return _degraded(verdict, word, holder, vp_id)
            mine[word] = (verdict.plugin_id, manifest.info.vp_id)
    owners |= mine
    return verdict


def _degraded(verdict: Verdict, word: str, holder: str, vp_id: str) -> Verdict:
    return replace(
        verdict,
        ok=False,
        detail=f"{word!r} is taken: lane {vp_id} of plugin {holder} was recorded with it first",
        remedy=f"uninstall {verdict.distribution} or the distribution that provides {holder}, or rename the lane or alias",
        manifests=(),
    )


def _words_of(manifest: Manifest) -> Iterable[str]:
    return _words(manifest.info.vp_id, manifest.info.aliases)


def _take(owners: dict[str, tuple[str, str]], plugin: str, vp_id: str, aliases: Sequence[str]) -> None:
    for word in _words(vp_id, aliases):
        owners.setdefault(word, (plugin, vp_id))


def _words(vp_id: str, aliases: Sequence[str]) -> Iterable[str]:
    """Everything that a person may call a lane, as matching compares it."""
    return dict.fromkeys(word.casefold() for word in (vp_id, lane_name(vp_id) or vp_id, *aliases))
