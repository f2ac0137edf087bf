"""The heartbeat, on a virtual clock: it renews when the loop does not, and fences only when it must."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from ua_vp.errors import LedgerBusyError
from ua_vp.ports import MICROS, Ports
from ua_vp.testing.simulation import World
from ua_vp.worker.heartbeat import Heartbeat

LEASE = 30.0


def in_a_world(main: Callable[[World, Ports], None], seed: int) -> None:
    world = World(seed)
    world.run(lambda ports: main(world, ports))


@pytest.mark.parametrize("seed", range(5))
def test_a_loop_that_hangs_does_not_lose_the_lease(seed: int) -> None:
    renewals, fenced = [], []

    def main(_world: World, ports: Ports) -> None:
        def renew() -> int:
            renewals.append(ports.clock.boot())
            return ports.clock.boot() + int(LEASE * MICROS)

        heartbeat = Heartbeat(ports, lease=LEASE, renew=renew, fence=lambda: fenced.append(True))
        ports.clock.sleep(10 * LEASE)
        heartbeat.close()

    in_a_world(main, seed)

    gaps = [(later - earlier) / MICROS for earlier, later in pairwise(renewals)]
    assert fenced == []
    assert max(gaps) < LEASE / 2


@pytest.mark.parametrize("seed", range(5))
def test_a_ledger_away_for_less_than_a_lease_fences_nothing(seed: int) -> None:
    fenced: list[bool] = []

    def main(_world: World, ports: Ports) -> None:
        back = ports.clock.boot() + int(0.9 * LEASE * MICROS)

        def renew() -> int:
            if ports.clock.boot() < back:
                raise LedgerBusyError("away")
            return ports.clock.boot() + int(LEASE * MICROS)

        heartbeat = Heartbeat(ports, lease=LEASE, renew=renew, fence=lambda: fenced.append(True))
        ports.clock.sleep(3 * LEASE)
        heartbeat.close()

    in_a_world(main, seed)

    assert fenced == []


@pytest.mark.parametrize("seed", range(5))
def test_a_ledger_away_for_longer_fences_once_at_the_deadline_and_not_before(seed: int) -> None:
    fenced: list[float] = []

    def main(_world: World, ports: Ports) -> None:
        start = ports.clock.boot()

        def renew() -> int:
            raise LedgerBusyError("away")

        heartbeat = Heartbeat(
            ports, lease=LEASE, renew=renew, fence=lambda: fenced.append((ports.clock.boot() - start) / MICROS)
        )
        ports.clock.sleep(5 * LEASE)
        assert heartbeat.fenced
        heartbeat.close()

    in_a_world(main, seed)

    [at] = fenced
    assert LEASE <= at <= 1.5 * LEASE


@pytest.mark.parametrize("seed", range(5))
def test_a_renewal_that_hangs_does_not_keep_it_from_fencing(seed: int) -> None:
    fenced: list[bool] = []

    def main(_world: World, ports: Ports) -> None:
        def renew() -> int:
            ports.clock.sleep(10 * LEASE)
            raise LedgerBusyError("away")

        heartbeat = Heartbeat(ports, lease=LEASE, renew=renew, fence=lambda: fenced.append(True))
        ports.clock.sleep(2 * LEASE)
        assert fenced == [True]
        heartbeat.close()

    in_a_world(main, seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_laptop_that_slept_past_its_deadline_tries_one_renewal_first(seed: int) -> None:
    fenced, renewals = [], []

    def main(world: World, ports: Ports) -> None:
        def renew() -> int:
            renewals.append(ports.clock.boot())
            return ports.clock.boot() + int(LEASE * MICROS)

        heartbeat = Heartbeat(ports, lease=LEASE, renew=renew, fence=lambda: fenced.append(True))
        world.suspend(100 * LEASE)
        ports.clock.sleep(LEASE)
        heartbeat.close()

    in_a_world(main, seed)

    assert renewals
    assert fenced == []
