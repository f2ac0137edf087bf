"""Echo, a third party's lane for ua-vp: it writes a mission's objective into a work product."""

from collections.abc import Sequence

import ua_vp


class Echo:
    """Takes missions of type `task`, which are an objective and nothing else."""

    info = ua_vp.LaneInfo(
        vp_id="vp.echo.primary",
        display_name="Echo",
        mission_types={"task": ua_vp.MissionType(description="Say it again", owes=("work_products/echo.txt",))},
    )

    def availability(self) -> ua_vp.Availability:
        """Nothing is needed, so nothing can be missing."""
        return ua_vp.Availability()

    def run(self, ctx: ua_vp.MissionContext) -> ua_vp.Outcome:
        """Write the objective down; what lies in `work_products` when `run` returns is handed over."""
        (ctx.work_products / "echo.txt").write_text(ctx.mission.objective + "\n", encoding="utf-8")
        return ua_vp.Outcome.completed(f"Echoed {len(ctx.mission.objective)} characters", primary=["echo.txt"])


@ua_vp.hookimpl
def ua_vp_lanes() -> Sequence[ua_vp.Lane]:
    """The one lane of this plugin; it has no settings, so it leaves the argument `config` out."""
    return [Echo()]
