"""The `ua-vp.toml` that the first `up` writes: every setting, its meaning and its default, made from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import PydanticUndefined

from ua_vp.ports import Files
from ua_vp.settings import SECTIONS, Settings

OPENING = """\
# Settings of ua-vp. What is commented out shows a default; the variable UA_VP_<SECTION>_<KEY> wins over this file.
# A name that nobody knows is an error, so a slip of the pen cannot go unnoticed.
"""
LANES = """
# Lanes: a table for each, named like the <name> in vp.<name>.primary.
#
# sandbox = "none" means that missions run UNCONFINED, with all that this account may do: the walls that the kernel
# gives are not built yet. Receipts and `ua-vp doctor` say so. Without this line a lane refuses to start. Keep it only
# where you would run the missions' commands yourself.
# allow_command = true would let whoever may dispatch run any program on this machine (mission type `command`).
# Recipes are commands of your own that missions may run: [lanes.<name>.recipes.<type>], see docs/how-to/add-a-recipe.md.

[lanes.coder]
sandbox = "none"
allow_command = false
# capacity = 1

[lanes.general]
sandbox = "none"
allow_command = false
# capacity = 1
"""


def content() -> str:
    """The whole text."""
    return OPENING + "".join(f"\n{line}" for line in _sections()) + "\n" + LANES


def _sections() -> Iterator[str]:
    for section, model in SECTIONS.items():
        yield f"[{section}]"
        for name, field in model.model_fields.items():
            yield f"# {field.description}"
            default = None if field.default is PydanticUndefined else field.default
            yield f"# {name} = {json.dumps(default)}" if default is not None else f"# {name} = …"
        yield ""


def write_if_absent(settings: Settings, files: Files) -> bool:
    """Write it where the settings are read from, unless there is one; whether it was written."""
    path: Path = settings.config
    if path.exists():
        return False
    files.make_folder(path.parent, mode=0o700)
    files.write(path, content().encode(), mode=0o640)
    return True
