"""Settings: environment `UA_VP_*` over one TOML file over defaults; a name nobody knows is an error.

Every setting is `[section] key` in `ua-vp.toml` and `UA_VP_<SECTION>_<KEY>` in the environment, which wins.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from ua_vp.errors import ConfigurationError
from ua_vp.mission import vp_id_of

OTHER_NAMES = frozenset(
    """UA_VP_CONFIG UA_VP_HOME UA_VP_BOOT_ID UA_VP_URL UA_VP_TOKEN UA_VP_TURN UA_VP_WORK_PRODUCTS UA_VP_SUPPORTING
    UA_VP_INPUTS UA_VP_OBJECTIVE_FILE UA_VP_CONSTRAINTS_FILE UA_VP_MISSION_ID UA_VP_SESSION""".split()
)
"""Variables beginning `UA_VP_` that are no settings of a section but have a meaning elsewhere."""


class Section(BaseModel):
    """A table of `ua-vp.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ops(Section):
    """The ops API."""

    bind: str = Field("127.0.0.1:8790", description="`HOST:PORT` or `unix:PATH` where the ops API listens")
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"), description="Host headers (without port) that are answered"
    )


class Database(Section):
    """The ledger."""

    url: str | None = Field(None, description="`postgresql+psycopg://…`; without it, `vp_state.db` in the home")


class Workspaces(Section):
    """Where missions work."""

    path: Path | None = Field(None, description="default: `AGENT_RUN_WORKSPACES` in the home")


class Worker(Section):
    """How workers work."""

    lease_seconds: float = Field(30.0, gt=0, description="how long a worker may stay silent before it is replaced")
    drain_seconds: float = Field(900.0, ge=0, description="how long a stopping worker waits for its missions")
    grace_seconds: float = Field(10.0, ge=0, description="from the polite stop of a mission's processes to the kill")
    probe_seconds: float = Field(10.0, gt=0, description="how long a plugin may take to load")


class LaneSettings(BaseModel):
    """`[lanes.<name>]`: these keys are the product's, all others are the lane's own and checked by it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    capacity: int | None = Field(None, ge=1, le=1000, description="missions at once; default: what the lane says")
    sandbox: Literal["none"] | None = Field(
        None, description='`"none"` runs missions without kernel walls; without it the lane refuses to start'
    )

    def own(self) -> Mapping[str, Any]:
        """The whole table as given, for the lane's `ua_vp_lanes(config)`."""
        return self.model_dump(exclude_unset=True)


class Settings(Section):
    """All settings, checked. `home` is absolute."""

    home: Path
    config: Path
    ops: Ops = Ops()
    database: Database = Database()
    workspaces: Workspaces = Workspaces()
    worker: Worker = Worker()
    lanes: Mapping[str, LaneSettings] = {}

    @property
    def ledger_path(self) -> Path:
        """The SQLite ledger."""
        return self.home / "vp_state.db"

    @property
    def workspace_root(self) -> Path:
        """The folder that holds a folder per lane."""
        return self.workspaces.path or self.home / "AGENT_RUN_WORKSPACES"

    @property
    def token_path(self) -> Path:
        """The token that the server makes for itself at first start, mode 0600."""
        return self.home / "credentials" / "ops.token"

    @property
    def ops_file(self) -> Path:
        """`ops.json`: where the running API is."""
        return self.home / "ops.json"

    def lane(self, name: str) -> LaneSettings:
        """The table `[lanes.<name>]`, empty if it is not there."""
        return self.lanes.get(name, LaneSettings())


SECTIONS: Mapping[str, type[Section]] = {"ops": Ops, "database": Database, "workspaces": Workspaces, "worker": Worker}


def load(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` and the file it leads to give.

    Raises:
        ConfigurationError: an unknown name (with the nearest known one), a value of the wrong kind, an unreadable file.
    """
    home = home_of(environ)
    config = (
        Path(environ["UA_VP_CONFIG"]).expanduser().absolute() if environ.get("UA_VP_CONFIG") else home / "ua-vp.toml"
    )
    values = _read(config, required="UA_VP_CONFIG" in environ)
    _refuse_unknown_sections(values, config)
    for name, section, key in _known_names():
        if name in environ:
            values[section] = {**values.get(section, {}), key: environ[name]}
    _refuse_unknown_variables(environ)
    try:
        return Settings(home=home, config=config, **_with_tuples(values))
    except pydantic.ValidationError as error:
        raise ConfigurationError(_explain(error, config)) from error


def home_of(environ: Mapping[str, str]) -> Path:
    """The product's home: `UA_VP_HOME`, else `ua-vp` in the XDG state folder; absolute."""
    return Path(environ.get("UA_VP_HOME") or _xdg_state(environ) / "ua-vp").expanduser().absolute()


def _xdg_state(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state")


def _read(config: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigurationError(
                f"UA_VP_CONFIG names {config}, which does not exist; make it or unset the variable"
            ) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{config} cannot be read: {error}") from error


def _known_names() -> Iterator[tuple[str, str, str]]:
    """(variable, section, key) of every setting."""
    for section, model in SECTIONS.items():
        for key in model.model_fields:
            yield f"UA_VP_{section}_{key}".upper(), section, key


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = {name for name, _, _ in _known_names()} | OTHER_NAMES
    for name in sorted(environ):
        if name.startswith("UA_VP_") and name not in known:
            raise ConfigurationError(f"environment variable {name} is not a setting{_near(name, known)}")


def _refuse_unknown_sections(values: Mapping[str, Any], config: Path) -> None:
    known = {*SECTIONS, "lanes"}
    for name, table in values.items():
        if name not in known:
            raise ConfigurationError(f"{config}: [{name}] is not a section{_near(name, known)}")
        if not isinstance(table, dict):
            raise ConfigurationError(f"{config}: {name} must be a table: [{name}]")


def _near(name: str, known: set[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]}?" if nearest else f"; known are {', '.join(sorted(known))}"


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    hosts = values.get("ops", {}).get("allowed_hosts")
    if isinstance(hosts, str):  # from the environment: comma-separated
        values["ops"] = {**values["ops"], "allowed_hosts": tuple(h.strip() for h in hosts.split(",") if h.strip())}
    return values


def _explain(error: pydantic.ValidationError, config: Path) -> str:
    lines = []
    for fault in error.errors():
        section, *rest = (str(part) for part in fault["loc"])
        where = f"[{section}] {'.'.join(rest)}"
        if fault["type"] == "extra_forbidden":
            known = set(SECTIONS[section].model_fields) if section in SECTIONS else set()
            lines.append(f"{where} is not a setting{_near(rest[0] if rest else section, known)}")
        else:
            lines.append(f"{where}: {fault['msg']} (given: {fault['input']!r})")
    return f"{config} or environment: " + "; ".join(lines)


def workspace_folder(settings: Settings, name: str) -> Path:
    """The folder that holds the missions of lane `<name>` (contract, section 1)."""
    return settings.workspace_root / (vp_id_of(name).replace(".", "_") + "_external")
