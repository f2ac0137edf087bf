"""The plugin host: finds plugins without importing them, probes each in a process of its own, loads one lane's.

Only workers load plugins; everybody else reads the verdicts of `probe_all`.
"""

from ua_vp.host.installed import Installed, find_installed, tables_without_plugin
from ua_vp.host.load import Hooks, LoadedLane, load_lane
from ua_vp.host.probe import probe_all

__all__ = ["Hooks", "Installed", "LoadedLane", "find_installed", "load_lane", "probe_all", "tables_without_plugin"]
