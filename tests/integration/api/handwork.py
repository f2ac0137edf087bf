"""What a worker does, done by hand, step by step, so that a test can stop between any two."""

from dataclasses import dataclass
from pathlib import Path

from tests.integration.api.serving import GENERAL, Api
from tests.waiting import wait_until
from tests.workspaces import put
from ua_vp.ledger import Session, claims, lanes, sessions
from ua_vp.mission import Claim, Ending, Status
from ua_vp.workspace import Workspace, discover, mark, prepare, publish, receipt_for, stage

LEASE = 60_000_000
FILES = {
    "work_products/summary.md": b"# Summary\n",
    "supporting/trace.txt": b"a trace\n",
    "run.log": b"line one\nline two\n",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hand:
    """A worker's session in one lane."""

    api: Api
    session: Session

    @property
    def now(self) -> int:
        return self.api.ports.clock.now()

    def claims(self) -> list[Claim]:
        clock = self.api.ports.clock
        return self.api.ledger.run(
            lambda tx: claims.claim(
                tx,
                vp_id=self.session.vp_id,
                session_id=self.session.session_id,
                worker_id=self.session.worker_id,
                limit=1,
                now=clock.now(),
                boot_id=clock.boot_id,
                deadline=clock.boot() + LEASE,
            )
        )

    def claim(self) -> Claim:
        (claim,) = self.claims()
        return claim

    def claim_when_there(self) -> Claim:
        return wait_until(self.claims, within=10, why="a mission is dispatched")[0]

    def workspace(self, claim: Claim) -> Workspace:
        lane = self.api.ledger.read(lambda tx: lanes.get_lane(tx, claim.mission.vp_id))
        assert lane is not None
        base = lane.manifest.workspace_base.removeprefix("workspace://")
        return Workspace(Path(base) / claim.mission_id)

    def work(self, claim: Claim, files: dict[str, bytes] | None = None) -> None:
        staging = prepare(self.workspace(claim), claim.attempt, files=self.api.ports.files).staging
        put(staging, FILES if files is None else files)

    def stage(self, claim: Claim, status: Status = Status.COMPLETED) -> tuple[Ending, int, str]:
        """Make durable what was left, with a receipt; nothing is committed. (ending, completed_at, receipt's hash)."""
        ws, now = self.workspace(claim), self.now
        found = discover(ws, claim.attempt, declared=())
        ending = Ending(status=status, summary="done", artifacts=found.artifacts)
        receipt = receipt_for(claim, ending, completed_at=now, host="h", build="b", result_ref=ws.result_ref)
        return ending, now, stage(ws, claim.attempt, receipt, files=self.api.ports.files)

    def commit(self, claim: Claim, status: Status = Status.COMPLETED) -> str:
        """Stage and commit; nothing is published. Returns the receipt's hash."""
        ws = self.workspace(claim)
        ending, completed_at, sha256 = self.stage(claim, status)
        self.api.ledger.run(
            lambda tx: claims.finish(
                tx,
                claim,
                ending,
                completed_at=completed_at,
                result_ref=ws.result_ref,
                receipt_path=f"{ws.root}/mission_receipt.json",
                sync_marker_path=f"{ws.root}/sync_ready.json",
            )
        )
        return sha256

    def publish(self, claim: Claim) -> None:
        publish(self.workspace(claim), claim.attempt, files=self.api.ports.files)
        now = self.now
        self.api.ledger.run(lambda tx: claims.stamp_published(tx, claim, now=now))

    def mark(self, claim: Claim, sha256: str) -> None:
        mission = self.api.row(claim.mission_id)
        assert mission.completed_at is not None
        mark(
            self.workspace(claim),
            mission_id=claim.mission_id,
            vp_id=mission.vp_id,
            state=mission.status,
            completed_at=mission.completed_at,
            receipt_sha256=sha256,
            files=self.api.ports.files,
        )
        now = self.now
        self.api.ledger.run(lambda tx: claims.stamp_marked(tx, claim, now=now, receipt_sha256=sha256))

    def finish(self, claim: Claim, files: dict[str, bytes] | None = None, status: Status = Status.COMPLETED) -> None:
        """All of it."""
        self.work(claim, files)
        sha256 = self.commit(claim, status)
        self.publish(claim)
        self.mark(claim, sha256)


def hand(api: Api, vp_id: str = GENERAL, *, lease: int = LEASE) -> Hand:
    """Open a session as a worker would; `lease` is µs from now, negative: it has run out."""
    clock = api.ports.clock
    now = clock.now()
    session = Session(
        session_id=f"vp-session-{api.ports.ids.uuid7()}",
        vp_id=vp_id,
        worker_id="w1",
        pid=1,
        host="h",
        build="b",
        opened_at=now,
        last_heartbeat_at=now,
        lease_boot=clock.boot_id,
        lease_deadline=clock.boot() + lease,
    )
    api.ledger.run(lambda tx: sessions.open_session(tx, session))
    return Hand(api=api, session=session)
