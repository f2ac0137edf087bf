"""The PostgreSQL that other tests stand on."""

import psycopg
import pytest

from tests.postgres import Cluster

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
