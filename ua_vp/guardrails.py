"""Which paths a lane may be pointed at: typed, absolute, resolved; checked at dispatch and again on the worker.

These checks give a clear, early error. They are no wall: what a mission's processes may touch is the sandbox's part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ua_vp.errors import FieldFault, GuardrailViolationError
from ua_vp.mission import Json, JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class PathPolicy:
    """Rules for the paths in a mission's constraints, as data that the ledger can hold.

    `fields` names the constraints that hold a path. A path must be absolute; with every link and `..` resolved it must
    lie in one of `allowed` (empty: anywhere) and must neither lie in, nor contain, one of `refused` (so a mission can
    be pointed neither into nor above the product's own roots).
    """

    fields: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """As stored in the lane's manifest."""
        return {"fields": list(self.fields), "allowed": list(self.allowed), "refused": list(self.refused)}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[str]]) -> PathPolicy:
        """The inverse of `to_json`."""
        return cls(
            fields=tuple(value.get("fields", ())),
            allowed=tuple(value.get("allowed", ())),
            refused=tuple(value.get("refused", ())),
        )

    def check(self, constraints: JsonObject) -> dict[str, Path]:
        """The resolved path of each field that is there.

        Raises:
            GuardrailViolationError: a path breaks a rule; `faults` name each field and the rule it breaks.
        """
        paths: dict[str, Path] = {}
        faults = []
        for name in self.fields:
            value = constraints.get(name)
            if value is None:
                continue
            resolved, detail = self._resolve(value)
            if resolved is None:
                faults.append(FieldFault(pointer=f"#/constraints/{name}", detail=detail))
            else:
                paths[name] = resolved
        if faults:
            raise GuardrailViolationError("; ".join(f"{f.pointer[2:]}: {f.detail}" for f in faults), faults=faults)
        return paths

    def _resolve(self, value: Json) -> tuple[Path | None, str]:
        """The resolved path, or None and what is wrong."""
        if not isinstance(value, str) or not value or "\0" in value:
            return None, "must be a path (a non-empty string without NUL)"
        if not value.startswith("/"):
            return None, f"{value!r} is not absolute; give the whole path from /"
        try:
            resolved = Path(value).resolve(strict=False)
        except (OSError, RuntimeError) as error:
            return None, f"{value!r} cannot be resolved: {error}"
        for root in self.refused:
            real = Path(root).resolve(strict=False)
            if resolved == real or resolved.is_relative_to(real) or real.is_relative_to(resolved):
                return None, f"{value!r} touches {root}, one of the product's own roots, which missions never may"
        if self.allowed and not any(resolved.is_relative_to(Path(root).resolve(strict=False)) for root in self.allowed):
            return None, f"{value!r} lies outside the lane's allowed roots ({', '.join(self.allowed)})"
        return resolved, ""
