"""Follow every marker under a home to its receipt and every receipt to its artifacts; print a line for each mission that holds.

Knows nothing of the product but what its contract says about files, and runs on the standard library alone.
"""

import hashlib
import json
import sys
from pathlib import Path


def main(home: Path) -> None:
    for marker in sorted(home.glob("AGENT_RUN_WORKSPACES/*/*/sync_ready.json")):
        print("verified:", *verify(marker.parent))


def verify(workspace: Path) -> tuple[str, str, int]:
    """The lane, the status and the number of artifacts of a mission whose files are what marker and receipt say."""
    marker = json.loads((workspace / "sync_ready.json").read_bytes())
    receipt_bytes = (workspace / "mission_receipt.json").read_bytes()
    receipt = json.loads(receipt_bytes)
    assert marker["receipt_sha256"] == hashlib.sha256(receipt_bytes).hexdigest()
    assert marker["state"] == receipt["status"]
    for artifact in receipt["artifacts"]:
        content = (workspace / artifact["path"]).read_bytes()
        assert artifact["bytes"] == len(content), artifact
        assert artifact["sha256"] == hashlib.sha256(content).hexdigest(), artifact
    primary = [artifact for artifact in receipt["artifacts"] if artifact["category"] == "primary"]
    assert primary or receipt["status"] != "completed"
    return receipt["vp_id"], receipt["status"], len(receipt["artifacts"])


if __name__ == "__main__":
    main(Path(sys.argv[1]).expanduser())
