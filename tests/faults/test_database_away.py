"""The whole product on PostgreSQL, and a server that crashes under it."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.figures import Figures, Rounds
from tests.postgres import Cluster
from tests.product import GENERAL, OPS, Product, lanes_table
from tests.waiting import wait_until

SHORT, LONG = 4.0, 40.0
"""Leases, seconds: one that the server is away for longer than, and one that outlasts the API's patience by far."""
DELIVER = 'echo done > "$UA_VP_WORK_PRODUCTS/summary.md"'

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(240)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Cluster]:
    """A server of this test's own, to be killed."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def product(server: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Product]:
    """A fresh home whose ledger is a database; API and a worker (with the lease of the test) have done a mission."""
    program = Path(sys.executable).with_name("ua-vp")
    config = lanes_table("general", lease_seconds=getattr(request, "param", LONG))
    with Product(program, tmp_path / "product", config, python=sys.executable) as product:
        product.environ["UA_VP_DATABASE_URL"] = server.create()
        product.serve()
        product.worker()
        assert product.finished(product.shell(DELIVER))["status"] == "completed"
        yield product


def test_a_server_that_crashes_and_is_back_within_a_lease_costs_no_mission(
    product: Product, server: Cluster, tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    lost = double = 0
    n = rounds(ci=2, soak=200)
    for number in range(n):
        go = tmp_path / f"go-{number}"
        mission_id = product.shell(f'while [ ! -e "$1" ]; do sleep 0.05; done; {DELIVER}', str(go))
        wait_until(partial(is_running, product, mission_id), within=20, why="the mission runs")

        server.kill()
        assert answer_while_away(product) == (503, "ledger_busy", True)
        server.start()
        go.touch()

        mission = product.finished(mission_id, within=60)
        lost += (mission["status"], mission["attempt"]) != ("completed", 1)
        double += len(product.terminal_events(mission_id)) - 1
        product.run("artifacts", "verify", mission_id)
    figures("PostgreSQL crashes, back within a lease", tried=n, lost=lost, double=double)


@pytest.mark.parametrize("product", [SHORT], indirect=True)
def test_a_server_that_is_away_for_longer_than_a_lease_stops_what_runs_and_it_is_taken_up_again(
    product: Product, server: Cluster, tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    lost = double = orphaned = 0
    n = rounds(ci=1, soak=50)
    for number in range(n):
        begun = tmp_path / f"begun-{number}"
        script = f'echo $$ >> "$1"; [ "$(wc -l < "$1")" -gt 1 ] || exec sleep 1000; {DELIVER}'
        mission_id = product.shell(script, str(begun))
        wait_until(begun.exists, within=20, why="the mission is at work")
        first = int(begun.read_text().split()[0])

        server.kill()
        wait_until(partial(is_gone, first), within=10 * SHORT, why="the worker stopped what it ran")
        server.start()

        mission = product.finished(mission_id, within=60)
        lost += mission["status"] != "completed"
        double += len(product.terminal_events(mission_id)) - 1
        orphaned += len(begun.read_text().split()) - mission["attempt"]
        product.run("artifacts", "verify", mission_id)
    figures("PostgreSQL away for longer than a lease", tried=n, lost=lost, double=double, orphaned=orphaned)


def test_a_dispatch_that_meets_the_crash_is_asked_again_by_its_key_and_made_once(
    product: Product, server: Cluster
) -> None:
    argv = ["sh", "-euc", DELIVER]
    body = {"vp_id": GENERAL, "objective": "Once", "mission_type": "command", "constraints": {"argv": argv}}
    server.kill()
    away = product.post(f"{OPS}/missions/dispatch", body, **{"Idempotency-Key": "once"})
    assert (away.status_code, away.json()["code"]) == (503, "ledger_busy")
    server.start()

    first, again = (
        wait_until(
            lambda: product.post(f"{OPS}/missions/dispatch", body, **{"Idempotency-Key": "once"}).json().get("mission"),
            within=20,
            why="the server is back",
        )
        for _ in range(2)
    )
    assert first["mission_id"] == again["mission_id"]
    assert product.finished(first["mission_id"])["status"] == "completed"


@pytest.mark.parametrize("product", [SHORT], indirect=True)
def test_another_ledger_in_its_place_is_left_alone_and_its_processes_leave(product: Product, server: Cluster) -> None:
    with psycopg.connect(product.environ["UA_VP_DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as shell:
        shell.execute("UPDATE vp_ledger SET epoch = epoch + 1")
        server.stop()
    server.start()
    for process in product._processes[:2]:
        code = wait_until(lambda process=process: process.code, within=60, why=f"{process.name} leaves")  # type: ignore[misc]
        assert code == 75, "a supervisor starts it again"
    product.serve()
    product.worker()
    assert product.finished(product.shell(DELIVER))["status"] == "completed"


def test_no_password_is_shown_by_doctor_or_written_to_a_file_of_the_home(product: Product, server: Cluster) -> None:
    password = product.environ["UA_VP_DATABASE_URL"].split(":")[2].split("@")[0]
    said = product.run("doctor", code=None).said
    assert "postgresql://127.0.0.1:" in said
    assert password not in said
    written = [path for path in product.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert written == []


def is_running(product: Product, mission_id: str) -> bool:
    return product.status(mission_id) == "running"


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def answer_while_away(product: Product) -> tuple[int, str, bool]:
    """Status, code, and whether it says when to try again."""
    answer = product.get(f"{OPS}/missions")
    return answer.status_code, answer.json()["code"], "Retry-After" in answer.headers
