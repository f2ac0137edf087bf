"""Tokens: the first one, scopes, expiry, bounds; what needs none."""

import stat
from pathlib import Path

import pytest

from tests.integration.api.problems import refusal
from tests.integration.api.serving import GENERAL, ROOT, Api, serving
from ua_vp.access import LastUse, Scope, ensure_first_token, hash_secret
from ua_vp.errors import ConfigurationError
from ua_vp.ledger import open_ledger, tokens
from ua_vp.ops.app import ROUTES
from ua_vp.runtime import real_ports

OPEN = {"/livez", "/readyz", "/api/v1/version", "/openapi.json"}


def test_without_a_token_only_four_paths_answer(shared: Api) -> None:
    with shared.as_holder_of(None) as stranger:
        for route in ROUTES:
            path = route.path.replace("{mission_id}", "m").replace("{path:path}", "p")
            response = stranger.request(route.method, path)
            if route.path in OPEN:
                assert response.status_code == 200, path
            else:
                assert refusal(response) == (401, "unauthorized"), path
                assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Basic abc", b"Bearer wrong", b"Bearer \xff", b"bearer a b"])
def test_what_is_no_token_of_ours_is_refused(shared: Api, header: bytes) -> None:
    with shared.as_holder_of(None) as stranger:
        assert refusal(stranger.get(f"{ROOT}/missions", headers={b"Authorization": header})) == (401, "unauthorized")


def test_each_route_asks_for_its_scope_and_no_other_will_do(shared: Api) -> None:
    for route in ROUTES:
        if route.scope is None:
            continue
        path = route.path.replace("{mission_id}", "m").replace("{path:path}", "p")
        others = [scope for scope in Scope if scope is not route.scope]
        with shared.as_holder_of(shared.token_with(*others)) as caller:
            assert refusal(caller.request(route.method, path)) == (403, "forbidden"), path
        with shared.as_holder_of(shared.token_with(route.scope)) as caller:
            assert caller.request(route.method, path).status_code not in {401, 403}, path


def test_a_token_that_expired_is_refused(shared: Api) -> None:
    with shared.as_holder_of(shared.token_with(*Scope, lives=-1)) as caller:
        assert refusal(caller.get(f"{ROOT}/missions")) == (401, "unauthorized")


def test_the_first_token_is_made_once_kept_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home) as api:
        first = api.token
        path = api.settings.token_path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert first.encode() not in api.settings.ledger_path.read_bytes()
        mission = api.mission_id()
    with serving(home) as api:
        assert api.token == first
        assert api.mission(mission)["created_by"] == "ops"
        path.unlink()
    with serving(home) as api:
        assert api.token != first
        with api.as_holder_of(first) as caller:
            assert caller.get(f"{ROOT}/missions").status_code == 200


def test_a_token_that_a_deployment_put_there_is_taken_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "credentials").mkdir(parents=True)
    path = home / "credentials" / "ops.token"
    path.write_text("0123456789abcdef" * 4 + "\n")
    path.chmod(0o600)

    with serving(home) as api:
        assert api.token == "0123456789abcdef" * 4
        assert api.get(f"{ROOT}/missions").status_code == 200


@pytest.mark.parametrize(
    ("text", "mode"), [("", 0o600), ("short\n", 0o600), ("a b" * 20, 0o600), ("0123456789abcdef" * 4, 0o640)]
)
def test_a_token_file_that_cannot_be_trusted_stops_the_start(tmp_path: Path, text: str, mode: int) -> None:
    ports = real_ports({})
    path = tmp_path / "ops.token"
    path.write_text(text)
    path.chmod(mode)
    ledger = open_ledger(tmp_path / "vp_state.db", ports=ports)
    try:
        with pytest.raises(ConfigurationError, match="remove it"):
            ensure_first_token(path, ledger=ledger, ports=ports)
        assert not ledger.read(tokens.any_token)
    finally:
        ledger.close()


def test_the_use_of_a_token_is_written_at_most_once_a_minute(tmp_path: Path) -> None:
    ports = real_ports({})
    ledger = open_ledger(tmp_path / "vp_state.db", ports=ports)
    path = tmp_path / "credentials" / "ops.token"
    use = LastUse(ports.threads.lock())
    try:
        assert ensure_first_token(path, ledger=ledger, ports=ports)
        sha256 = hash_secret(path.read_text().strip())

        def last_use() -> int | None:
            token = ledger.read(lambda tx: tokens.find_token(tx, sha256))
            assert token is not None
            return token.last_used_at

        token = ledger.read(lambda tx: tokens.find_token(tx, sha256))
        assert token is not None
        seen = []
        for at in (10**15, 10**15 + 59_000_000, 10**15 + 61_000_000):
            use.note(token.token_id, at)
            use.write(ledger)
            seen.append(last_use())
        assert seen == [10**15, 10**15, 10**15 + 61_000_000]
    finally:
        ledger.close()


def test_readiness_waits_for_a_verdict_on_each_plugin(tmp_path: Path) -> None:
    with serving(tmp_path / "home", plugins=("general", "coder", "late")) as api:
        response = api.get("/readyz")

        assert refusal(response) == (503, "lane_unavailable")
        assert response.json()["reasons"] == ["plugin 'late' was not probed yet"]
        assert api.get("/api/v1/version").json()["ledger_id"] == api.ledger.identity.ledger_id


def test_a_token_bound_to_sources_gets_no_figures(shared: Api) -> None:
    with shared.as_holder_of(shared.token_with(*Scope, sources=["s1"])) as caller:
        for path in ("/metrics", "/api/v1/ops/metrics/vp"):
            assert refusal(caller.get(path)) == (403, "forbidden")


def test_a_token_bound_to_several_sources_reads_them_all_and_nothing_else(api: Api) -> None:
    made = {source: api.mission_id(source_session_id=source) for source in ("s1", "s2", "s3")}
    api.mission_id()
    with api.as_holder_of(api.token_with(*Scope, sources=["s1", "s2"])) as caller:
        first = caller.get(f"{ROOT}/missions", params={"limit": 1}).json()
        second = caller.get(f"{ROOT}/missions", params={"limit": 1, "cursor": first["next_cursor"]}).json()
        shown = [mission["mission_id"] for mission in first["missions"] + second["missions"]]
        assert shown == [made["s2"], made["s1"]]
        assert second["next_cursor"] is None
        events = caller.get(f"{ROOT}/events", params={"after": 0}).json()["events"]
        assert [event["mission_id"] for event in events] == [made["s1"], made["s2"]]
        refused = caller.post(f"{ROOT}/missions/dispatch", json={"vp_id": GENERAL, "objective": "x"})
        assert refusal(refused) == (400, "validation_error")
