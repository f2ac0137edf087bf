"""What a lane process does: claim, run, finish, renew, reconcile, drain.

`loop.Worker` is the whole; the other modules are its steps, in the order of a mission: `tick` (claim and commit),
`conduct` (one mission on its thread), `execute` and `context` (the lane's run), `finalize` (stage, publish, mark).
Beside the path: `heartbeat`, `reconcile`, `observe`.
"""

from ua_vp.worker.assignment import Assignment
from ua_vp.worker.loop import Worker, WorkerExit

__all__ = ["Assignment", "Worker", "WorkerExit"]
