"""The PostgreSQL that other tests stand on."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.postgres import Cluster
from tests.product import free_port

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(180)]


def test_what_was_committed_survives_a_crash_of_the_server() -> None:
    with Cluster() as cluster:
        dsn = cluster.dsn("postgres")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        cluster.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)
        cluster.start()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)


def test_nobody_comes_in_without_the_password(cluster: Cluster) -> None:
    right = cluster.dsn("postgres")
    wrong = right.replace(right.split(":")[2].split("@")[0], "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_each_database_is_fresh(cluster: Cluster) -> None:
    assert cluster.create() != cluster.create()


def test_up_with_first_missions_runs_on_a_server_of_its_own_and_on_what_it_kept(
    cluster: Cluster, tmp_path: Path
) -> None:
    """What `./dev up --postgres --once` does; `cluster` says whether there is a server."""
    bind = {"UA_VP_HOME": str(tmp_path / "home"), "UA_VP_OPS_BIND": f"127.0.0.1:{free_port()}"}
    program = Path(sys.executable).with_name("ua-vp")
    with TemporaryDirectory(
        prefix="ua-vp-kept-"
    ) as kept:  # the server runs as somebody else, who may not enter tmp_path
        Path(kept).chmod(0o755)
        up = [sys.executable, "-m", "tests.postgres", "--keep", kept, str(program), "up", "--first-missions", "--once"]
        for _ in range(2):
            done = subprocess.run(up, env=os.environ | bind, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said = done.stdout + done.stderr
            assert "ledger     postgresql://127.0.0.1:" in said
            assert said.count("receipt checked") == 2
    assert not (tmp_path / "home" / "vp_state.db").exists()
