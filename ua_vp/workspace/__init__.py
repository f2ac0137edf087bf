"""One mission's folder: made, filled, staged, published, marked, read and verified (contract, section 4).

Order of a run: `prepare`, (`RunLog`, the lane), `keep_log`, `discover`, `stage`, [commit], `publish`, `mark`. From
`stage` on, every step may be cut short at any line and run again, by anybody.
"""

from ua_vp.workspace.artifacts import Discovery, discover, media_type, missing, rank
from ua_vp.workspace.layout import (
    AttemptFolders,
    InputSource,
    LaidInput,
    Workspace,
    fresh_folder,
    prepare,
)
from ua_vp.workspace.marker import Difference, clear_up, drop_work, keep_late, mark, verify
from ua_vp.workspace.openat2 import open_beneath
from ua_vp.workspace.publication import publish, put_in_place, stage
from ua_vp.workspace.reading import ArtifactList, list_artifacts, open_artifact
from ua_vp.workspace.receipt import (
    CredentialUse,
    ExecutorUse,
    Receipt,
    SandboxUse,
    published_receipt,
    read_receipt,
    receipt_for,
    receipt_schema,
    sync_ready_schema,
)
from ua_vp.workspace.runlog import LogChunk, RunLog, copy_log, keep_log, open_log, read_log
from ua_vp.workspace.walk import LeftOut

__all__ = [
    "ArtifactList",
    "AttemptFolders",
    "CredentialUse",
    "Difference",
    "Discovery",
    "ExecutorUse",
    "InputSource",
    "LaidInput",
    "LeftOut",
    "LogChunk",
    "Receipt",
    "RunLog",
    "SandboxUse",
    "Workspace",
    "clear_up",
    "copy_log",
    "discover",
    "drop_work",
    "fresh_folder",
    "keep_late",
    "keep_log",
    "list_artifacts",
    "mark",
    "media_type",
    "missing",
    "open_artifact",
    "open_beneath",
    "open_log",
    "prepare",
    "publish",
    "published_receipt",
    "put_in_place",
    "rank",
    "read_log",
    "read_receipt",
    "receipt_for",
    "receipt_schema",
    "stage",
    "sync_ready_schema",
    "verify",
]
