"""The kit for tests: missions on a lane (`run_mission`), and a world in which all follows from a seed (`World`)."""

from ua_vp.testing.lane_kit import LaneContext, LaneRun, run_mission
from ua_vp.testing.simulation import DeadlockError, SimulationError, World

__all__ = ["DeadlockError", "LaneContext", "LaneRun", "SimulationError", "World", "run_mission"]
