"""Ways a lane gets work done; lanes import from here."""

from ua_vp.executors.command import (
    Ran,
    Recipe,
    first_line_of,
    flag,
    last_lines,
    mission_types,
    no_agent,
    recipes_from,
    refuse_unknown_keys,
    run_mission,
    run_recipe,
)

__all__ = [
    "Ran",
    "Recipe",
    "first_line_of",
    "flag",
    "last_lines",
    "mission_types",
    "no_agent",
    "recipes_from",
    "refuse_unknown_keys",
    "run_mission",
    "run_recipe",
]
