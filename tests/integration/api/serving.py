"""A real API for tests: uvicorn on a free port, a real SQLite ledger, lanes published from hand-made manifests."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import uvicorn

from tests.waiting import wait_until
from ua_vp.access import Scope, make_token
from ua_vp.guardrails import PathPolicy
from ua_vp.lane import Availability, LaneInfo, Manifest, MissionType, Verdict
from ua_vp.ledger import Ledger, lanes, missions, open_ledger, tokens
from ua_vp.mission import Actor, JsonObject, Mission
from ua_vp.ops import OpsParts, create_app
from ua_vp.ports import Ports
from ua_vp.runtime import real_ports
from ua_vp.settings import Settings, workspace_folder

GENERAL, CODER, BROKEN = "vp.general.primary", "vp.coder.primary", "vp.broken.primary"
ROOT = "/api/v1/ops/vp"
DISPATCH = f"{ROOT}/missions/dispatch"
TESTER = Actor(name="tester", via="test")
SUMMARISE: JsonObject = MappingProxyType(
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["words"],
        "properties": {
            "words": {"type": "integer", "minimum": 1},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    }
)
POINTED: JsonObject = MappingProxyType(
    {"type": "object", "additionalProperties": False, "properties": {"repository": {"type": "string"}}}
)


def manifest(settings: Settings, name: str = "general", **changes: Any) -> Manifest:
    """A lane with a type for everybody, one with a schema, one that points at paths, and one that lacks an agent."""
    info = LaneInfo(
        vp_id=f"vp.{name}.primary",
        display_name=name.title(),
        aliases=(f"{name} vp",),
        mission_types={
            "plain": MissionType(description="takes nothing"),
            "summarise": MissionType(description="takes words", schema=SUMMARISE),
            "pointed": MissionType(description="takes a path", schema=POINTED),
            "task": MissionType(description="free text"),
        },
        path_policy=PathPolicy(fields=("repository",), refused=(str(settings.home),)),
        capacity=2,
        measures=("tokens",),
    )
    made = Manifest(
        info=info,
        availability=Availability(types={"task": "install an agent"}),
        distribution=f"ua-vp-{name}",
        version="1.2.3",
        workspace_base=f"workspace://{workspace_folder(settings, name)}",
        sandbox="none",
    )
    return replace(made, **changes)


def verdict(*manifests: Manifest, name: str = "general", ok: bool = True, **changes: Any) -> Verdict:
    made = Verdict(
        entry_point=name, distribution=f"ua-vp-{name}", version="1.2.3", ok=ok, detail="loaded", manifests=manifests
    )
    return replace(made, **changes)


def degraded(name: str = "broken") -> Verdict:
    return verdict(name=name, ok=False, detail="raised ImportError at import", remedy=f"reinstall ua-vp-{name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """A running API, and what it runs on."""

    url: str
    token: str
    http: httpx2.Client
    ledger: Ledger
    ports: Ports
    settings: Settings

    def dispatch(self, **body: Any) -> httpx2.Response:
        return self.http.post(DISPATCH, json={"vp_id": GENERAL, "objective": "Do it", "mission_type": "plain"} | body)

    def mission_id(self, **body: Any) -> str:
        response = self.dispatch(**body)
        assert response.status_code == 202, response.text
        return str(response.json()["mission"]["mission_id"])

    def get(self, path: str, **params: Any) -> httpx2.Response:
        return self.http.get(path, params=params)

    def mission(self, mission_id: str) -> dict[str, Any]:
        response = self.get(f"{ROOT}/missions/{mission_id}")
        assert response.status_code == 200, response.text
        return dict(response.json()["mission"])

    def row(self, mission_id: str) -> Mission:
        found = self.ledger.read(lambda tx: missions.get_mission(tx, mission_id))
        assert found is not None
        return found

    def publish(self, *verdicts: Verdict) -> None:
        now = self.ports.clock.now()
        self.ledger.run(lambda tx: lanes.publish_verdicts(tx, verdicts, now=now, actor=TESTER))

    def token_with(
        self, *scopes: Scope, lanes: Sequence[str] = (), sources: Sequence[str] = (), lives: int = 10**12
    ) -> str:
        """A new token; `lives` is µs from now."""
        now = self.ports.clock.now()
        new = make_token(
            "narrow", scopes=scopes, ids=self.ports.ids, now=now, lanes=lanes, sources=sources, expires_at=now + lives
        )
        self.ledger.run(lambda tx: tokens.add_token(tx, new.token, new.sha256))
        return new.secret

    def as_holder_of(self, token: str | None) -> httpx2.Client:
        """A client with another token; the caller closes it."""
        return client(self.url, token)


def client(url: str, token: str | None) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


@contextmanager
def serving(home: Path, *, plugins: tuple[str, ...] = ("general", "coder")) -> Iterator[Api]:
    """An API over the ledger in `home`, made if it is not there, with two lanes and a plugin that cannot load."""
    settings = Settings(home=home, config=home / "ua-vp.toml")
    ports = real_ports({})
    ledger = open_ledger(settings.ledger_path, ports=ports)
    app = create_app(
        OpsParts(ledger=ledger, ports=ports, settings=settings, version="0.1.0", build="test", plugins=plugins)
    )
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), within=10, why="the server starts")
        assert server.started, "the server did not start"
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        token = settings.token_path.read_text().strip()
        with client(url, token) as http:
            api = Api(url=url, token=token, http=http, ledger=ledger, ports=ports, settings=settings)
            api.publish(
                verdict(manifest(settings)), verdict(manifest(settings, "coder"), name="coder"), degraded("broken")
            )
            yield api
    finally:
        server.should_exit = True
        thread.join(10)
        ledger.close()
        assert not thread.is_alive(), "the server did not stop"
