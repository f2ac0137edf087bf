"""What operators do from the command line: take a mission from its worker, end it, do it again; steer lanes."""

import json

import pytest

from tests.family import Family
from tests.product import GENERAL, Product
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def test_a_mission_that_hangs_is_taken_from_its_worker_and_done_by_the_next_attempt(
    product: Product, family: Family
) -> None:
    product.serve()
    product.worker()
    mission_id = product.command(*family.argv(product.python))
    wait_until(family.is_up, within=20, why="the mission's processes are there")

    said = product.run("requeue", mission_id, "--reason", "it hangs")

    assert said.out.split()[0] == mission_id
    mission = product.finished(mission_id)
    assert (mission["status"], mission["attempt"], mission["tries"]) == ("completed", 2, 0), "it does not count"
    assert [attempt["end_reason"] for attempt in product.attempts(mission_id)] == ["operator", "completed"]
    assert family.members() == []
    product.run("artifacts", "verify", mission_id)


def test_a_mission_is_ended_over_its_workers_head_and_done_again(product: Product, family: Family) -> None:
    product.serve()
    worker = product.worker()
    mission_id = product.command(*family.argv(product.python))
    wait_until(family.is_up, within=20, why="the mission's processes are there")
    assert f"ua-vp fail {mission_id}" in product.run("show", mission_id).out

    product.run("fail", mission_id, "--reason", "it hangs")

    wait_until(lambda: family.members() == [], within=20, why="its worker ends it")
    mission = product.finished(mission_id)
    assert (mission["status"], mission["failure_mode"], mission["failure_detail"]) == ("failed", "operator", "it hangs")
    assert [attempt["end_reason"] for attempt in product.attempts(mission_id)] == ["operator"]
    assert len(product.terminal_events(mission_id)) == 1
    assert f"ua-vp retry {mission_id}" in product.run("show", mission_id).out
    product.run("artifacts", "verify", mission_id)

    constraints = json.dumps({"argv": ["sh", "-c", "echo done > work_products/done.txt"]})
    again = product.run("retry", mission_id, "--constraints", constraints, "--wait", "--json").rows[-1]["mission"]

    assert (again["status"], again["retry_of"]) == ("completed", mission_id)
    for verb in ("requeue", "fail"):
        refused = product.run(verb, mission_id, "--reason", "x", code=5)
        assert f"{verb} is not possible now; retry is" in refused.err
    assert worker.code is None


def test_a_paused_lane_says_so_and_goes_on_when_it_is_resumed(product: Product) -> None:
    product.serve()
    product.worker()

    assert product.run("lanes", "pause", "general").out.split() == [GENERAL, "paused"]
    mission_id = product.shell("echo done > work_products/done.txt")

    assert "the lane is paused" in product.run("show", mission_id).out
    product.run("wait", mission_id, "--timeout", "1", code=124)
    assert product.run("lanes", "drain", "general", "--json").rows[0]["lane"]["draining"] is True
    assert product.run("lanes", "resume", "general").out.split() == [GENERAL, "available"]
    assert product.finished(mission_id)["status"] == "completed"
    assert "did you mean" in product.run("lanes", "pause", "genral", code=4).err


def test_a_token_made_at_the_command_line_lets_in_until_it_is_revoked(product: Product) -> None:
    product.serve()
    mission_id = product.shell("true")

    made = product.run("token", "create", "--scope", "missions:read", "--lane", "general", "--expires", "30d")

    (secret,) = made.out.split()
    token_id = made.err.split()[0]
    assert product.run("show", mission_id, UA_VP_TOKEN=secret).out.startswith(mission_id)
    product.run("cancel", mission_id, code=6, UA_VP_TOKEN=secret)
    product.run("token", "ls", code=6, UA_VP_TOKEN=secret)
    assert token_id in product.run("token", "ls").out
    assert product.run("token", "revoke", token_id).out.split() == [token_id, "revoked"]
    product.run("show", mission_id, code=6, UA_VP_TOKEN=secret)
    wrong = product.run("token", "create", "--scope", "missions:raed", code=2)
    assert "there is no scope 'missions:raed'" in wrong.err
    assert "write 30d" in product.run("token", "create", "--scope", "missions:read", "--expires", "soon", code=2).err
    assert secret not in product.run("token", "ls", "--json").out
