"""Plugins, lanes, sessions and tokens as records."""

from dataclasses import replace

from tests.integration.ledger.places import (
    BOOT,
    LANE,
    LEASE,
    OTHER_LANE,
    SOMEBODY,
    START,
    Worker,
    manifest,
    verdict,
)
from ua_vp.lane import Availability, Verdict
from ua_vp.ledger import Ledger, Token, events, lanes, session_state, sessions, tokens

GENERAL = verdict("general", manifest(LANE, aliases=("general vp",)))
CODIE = verdict("coder", manifest(OTHER_LANE, aliases=("codie",)))


def publish(ledger: Ledger, *verdicts: Verdict, now: int = START) -> list[tuple[str, str | None]]:
    """Publish, and say which lane events that wrote."""
    cursor = ledger.read(events.newest_seq)
    ledger.run(lambda tx: lanes.publish_verdicts(tx, verdicts, now=now, actor=SOMEBODY))
    written = ledger.read(lambda tx: events.page_events(tx, after=cursor, limit=50))
    return [(event.type.removeprefix("vp.lane."), event.vp_id) for event in written]


def test_verdicts_become_plugins_and_lanes_with_events_for_changes_only(ledger: Ledger) -> None:
    assert publish(ledger, GENERAL, CODIE) == [("registered", LANE), ("registered", OTHER_LANE)]
    assert publish(ledger, CODIE, GENERAL, now=START + 1) == []
    found = ledger.read(lanes.list_lanes)
    assert [lane.manifest for lane in found] == [CODIE.manifests[0], GENERAL.manifests[0]]
    assert {lane.registered_at for lane in found} == {START}
    plugins = ledger.read(lanes.list_plugins)
    assert [plugin.verdict for plugin in plugins] == [CODIE, GENERAL]
    assert {plugin.probed_at for plugin in plugins} == {START + 1}
    assert ledger.read(lambda tx: lanes.get_lane(tx, "vp.nobody.primary")) is None


def test_lanes_of_a_plugin_that_breaks_or_goes_are_kept_unavailable_with_its_remedy(ledger: Ledger) -> None:
    publish(ledger, GENERAL, CODIE)
    ledger.run(lambda tx: lanes.steer_lane(tx, LANE, paused=True, now=START, actor=SOMEBODY))
    broken = verdict("general", ok=False, remedy="reinstall it")
    assert sorted(publish(ledger, broken)) == [("degraded", OTHER_LANE), ("degraded", LANE)]
    general = ledger.read(lambda tx: lanes.get_lane(tx, LANE))
    coder = ledger.read(lambda tx: lanes.get_lane(tx, OTHER_LANE))
    assert general is not None
    assert coder is not None
    assert general.manifest.availability == Availability(available=False, reason="import failed", remedy="reinstall it")
    assert not coder.manifest.availability.available
    assert "not installed" in str(coder.manifest.availability.reason)
    assert [plugin.verdict for plugin in ledger.read(lanes.list_plugins)] == [broken]
    assert publish(ledger, broken) == []
    assert publish(ledger, GENERAL, CODIE) == [("registered", LANE), ("registered", OTHER_LANE)]
    mended = ledger.read(lambda tx: lanes.get_lane(tx, LANE))
    assert mended is not None
    assert mended.manifest == GENERAL.manifests[0]
    assert mended.paused, "the operator's switch is nobody else's"


def test_a_lane_id_stays_with_the_plugin_recorded_first(ledger: Ledger) -> None:
    publish(ledger, GENERAL)
    rival = verdict("aaa", manifest(LANE))
    assert publish(ledger, rival, GENERAL) == []
    plugins = {plugin.verdict.entry_point: plugin.verdict for plugin in ledger.read(lanes.list_plugins)}
    assert plugins["general"] == GENERAL
    assert not plugins["aaa"].ok
    assert "general" in plugins["aaa"].detail
    assert "uninstall" in str(plugins["aaa"].remedy)
    assert publish(ledger, rival, verdict("general", ok=False)) == [("degraded", LANE)], "broken, it keeps its name"
    assert publish(ledger, rival) == [("registered", LANE)], "gone, it does not"


def test_an_alias_belongs_to_one_lane_and_case_does_not_matter(ledger: Ledger) -> None:
    publish(ledger, GENERAL)
    rival = verdict("coder", manifest(OTHER_LANE, aliases=("General VP",)))
    assert publish(ledger, GENERAL, rival) == []
    assert ledger.read(lambda tx: lanes.get_lane(tx, OTHER_LANE)) is None
    by_name = verdict("coder", manifest(OTHER_LANE, aliases=("general",)))
    assert publish(ledger, GENERAL, by_name) == []


def test_availability_changes_are_events_only_at_the_turn(ledger: Ledger) -> None:
    publish(ledger, GENERAL)
    cursor = ledger.read(events.newest_seq)
    down = Availability(available=False, reason="no agent", remedy="install one")
    for said in (down, replace(down, reason="still none"), Availability(types={"task": "install one"})):
        ledger.run(lambda tx, said=said: lanes.update_availability(tx, LANE, said, START + 5))  # type: ignore[misc]
        lane = ledger.read(lambda tx: lanes.get_lane(tx, LANE))
        assert lane is not None
        assert lane.manifest.availability == said
    written = ledger.read(lambda tx: events.page_events(tx, after=cursor, limit=9))
    assert [event.type for event in written] == ["vp.lane.degraded", "vp.lane.registered"]


def test_an_operator_pauses_drains_and_resumes(ledger: Ledger) -> None:
    publish(ledger, GENERAL)
    cursor = ledger.read(events.newest_seq)
    for switches in ({"paused": True}, {"paused": True}, {"paused": False}, {"draining": True}, {"draining": False}):
        ledger.run(lambda tx, s=switches: lanes.steer_lane(tx, LANE, **s, now=START, actor=SOMEBODY))  # type: ignore[misc]
    written = ledger.read(lambda tx: events.page_events(tx, after=cursor, limit=9))
    kinds = [event.type.removeprefix("vp.lane.") for event in written]
    assert kinds == ["paused", "resumed", "draining", "resumed"]
    assert ledger.run(lambda tx: lanes.steer_lane(tx, "vp.x.primary", paused=True, now=1, actor=SOMEBODY)) is None


def test_sessions_are_listed_and_their_state_is_worked_out(ledger: Ledger) -> None:
    one = Worker(ledger, "s1").start()
    Worker(ledger, "s2", vp_id=OTHER_LANE).start()
    assert len(ledger.read(sessions.list_sessions)) == 2
    (session,) = ledger.read(lambda tx: sessions.list_sessions(tx, LANE))
    assert session_state(session, BOOT, LEASE) == "live"
    assert session_state(session, BOOT, LEASE + 1) == "stale"
    assert session_state(session, "boot-2", 0) == "stale"
    one.boot_now, one.now = 10, START + 10
    one.renew()
    ledger.run(lambda tx: sessions.close_session(tx, "s1", START + 20))
    ledger.run(lambda tx: sessions.close_session(tx, "s1", START + 30))
    (session,) = ledger.read(lambda tx: sessions.list_sessions(tx, LANE))
    assert (session.last_heartbeat_at, session.lease_deadline, session.closed_at) == (
        START + 10,
        10 + LEASE,
        START + 20,
    )
    assert session_state(session, BOOT, 0) == "closed"
    seen = ledger.read(lambda tx: events.page_events(tx, after=0, vp_id=LANE, limit=9))
    assert [event.type for event in seen] == ["vp.session.opened", "vp.session.closed"]


def test_a_token_is_found_by_its_secrets_hash(ledger: Ledger) -> None:
    assert not ledger.read(tokens.any_token)
    token = Token(
        token_id="t1",
        name="ops",
        scopes=frozenset({"admin", "events:read"}),
        lanes=(LANE,),
        sources=(),
        created_at=START,
        expires_at=START + 1,
        last_used_at=None,
        revoked_at=None,
    )
    ledger.run(lambda tx: tokens.add_token(tx, token, "hash"))
    assert ledger.read(tokens.any_token)
    assert ledger.read(lambda tx: tokens.find_token(tx, "hash")) == token
    assert ledger.read(lambda tx: tokens.find_token(tx, "other")) is None
    for used in (START, START + 1, START + tokens.TOUCH_EVERY):
        ledger.run(lambda tx, used=used: tokens.touch_token(tx, "t1", used))  # type: ignore[misc]
    found = ledger.read(lambda tx: tokens.find_token(tx, "hash"))
    assert found == replace(token, last_used_at=START + tokens.TOUCH_EVERY)
