"""The lane `vp.general.primary`: commands with declared inputs, for work that is not about code."""

from collections.abc import Mapping, Sequence
from typing import Any

import ua_vp
from ua_vp import executors

LANE = "general"
CHECK_DOCS = executors.Recipe(
    name="check-docs",
    description="Check the Markdown below a folder: links, anchors, code blocks, pages that nothing leads to",
    argv=("{python}", "-P", "-m", "ua_vp_general.check_docs", "--", "{inputs.root}"),
    inputs={
        "type": "object",
        "properties": {
            "root": {"type": "string", "pattern": "^/", "description": "absolute path of the folder of a checkout"}
        },
        "required": ["root"],
        "additionalProperties": False,
    },
    seconds=600,
    owes=("work_products/summary.md",),
)


class General:
    """Runs recipes: the one it ships, and those of `[lanes.general.recipes]`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        executors.refuse_unknown_keys(config, lane=LANE, known=("recipes", "allow_command"))
        self._recipes = executors.recipes_from(config, [CHECK_DOCS], lane=LANE)
        allow_command = executors.flag(config, "allow_command", lane=LANE)
        self.info = ua_vp.LaneInfo(
            vp_id="vp.general.primary",
            display_name="General",
            aliases=("general vp", "general dp", "general vp/dp"),
            mission_types=executors.mission_types(self._recipes, allow_command=allow_command),
        )

    def availability(self) -> ua_vp.Availability:
        """Available for everything but free text, which needs an agent."""
        return ua_vp.Availability(types=executors.no_agent(self.info.mission_types))

    def run(self, ctx: ua_vp.MissionContext) -> ua_vp.Outcome:
        """Run the mission's recipe or command."""
        return executors.run_mission(ctx, self._recipes).outcome


@ua_vp.hookimpl
def ua_vp_lanes(config: Mapping[str, Any]) -> Sequence[ua_vp.Lane]:
    """The lane, made from `[lanes.general]`."""
    return [General(config)]
