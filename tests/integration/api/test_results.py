"""Artifacts and logs: lists, bytes, ranges, and what must not be had."""

import hashlib
import os

import pytest

from tests.integration.api.handwork import FILES, hand
from tests.integration.api.problems import refusal
from tests.integration.api.serving import ROOT, Api


def test_the_bytes_of_every_listed_file_have_the_listed_hash(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    worker.finish(worker.claim(), {**FILES, "work_products/größe <1>.svg": b"<svg onload='x()'/>"})
    base = f"{ROOT}/missions/{mission_id}/artifacts"

    listed = api.get(base).json()
    markers = api.get(base, category="marker").json()

    assert listed["artifacts_total"] == len(listed["artifacts"]) == 4
    assert [artifact["path"] for artifact in markers["artifacts"]] == ["mission_receipt.json", "sync_ready.json"]
    for artifact in listed["artifacts"] + markers["artifacts"]:
        response = api.get(f"{base}/{artifact['path']}")
        assert hashlib.sha256(response.content).hexdigest() == artifact["sha256"]
        assert len(response.content) == artifact["bytes"]
        assert response.headers["etag"] == f'"{artifact["sha256"]}"'
        assert response.headers["content-disposition"].startswith("attachment; ")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in response.headers["content-security-policy"]
        assert response.headers["content-type"] in {"text/plain; charset=utf-8", "application/octet-stream"}
        known = api.http.get(f"{base}/{artifact['path']}", headers={"If-None-Match": response.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")


def test_a_listing_goes_by_category_and_page(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    worker.finish(worker.claim(), {f"work_products/{n}.txt": b"x" for n in range(5)} | {"run.log": b"l\n"})
    base = f"{ROOT}/missions/{mission_id}/artifacts"

    first = api.get(base, category="primary", limit=3).json()
    second = api.get(base, category="primary", limit=3, cursor=first["next_cursor"]).json()

    paths = [artifact["path"] for artifact in first["artifacts"] + second["artifacts"]]
    assert paths == [f"work_products/{n}.txt" for n in range(5)]
    assert (first["artifacts_total"], second["next_cursor"]) == (5, None)
    assert [artifact["path"] for artifact in api.get(base, category="supporting").json()["artifacts"]] == ["run.log"]
    assert refusal(api.get(base, category="other")) == (400, "validation_error")
    assert refusal(api.get(base, cursor="!")) == (400, "validation_error")


def test_from_the_commit_on_files_are_read_and_before_it_nothing_is(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    claim = worker.claim()
    worker.work(claim)
    base = f"{ROOT}/missions/{mission_id}/artifacts"

    worker.stage(claim)
    before = api.get(base).json()
    hidden = api.get(f"{base}/work_products/summary.md")
    sha256 = worker.commit(claim)
    committed = api.get(f"{base}/work_products/summary.md")
    worker.publish(claim)
    published = api.get(f"{base}/work_products/summary.md")
    worker.mark(claim, sha256)

    assert (before["artifacts"], before["artifacts_total"]) == ([], 0)
    assert refusal(hidden) == (404, "not_found")
    assert committed.content == published.content == FILES["work_products/summary.md"]


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2f..%2fvp_state.db",
        "%2e%2e/%2e%2e/vp_state.db",
        "work_products/../../../../credentials/ops.token",
        "work_products%2f..%2fmission_receipt.json",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "work_products",
        "work_products/",
        "work_products/summary.md%00",
        "work_products/%ff",
        ".attempts/1/staging/run.log",
        "x" * 5000,
        "",
    ],
)
def test_what_is_not_listed_cannot_be_had(finished: tuple[Api, str], path: str) -> None:
    api, mission_id = finished

    assert refusal(api.http.get(f"{api.url}{ROOT}/missions/{mission_id}/artifacts/{path}")) == (404, "not_found")


@pytest.fixture(scope="module")
def finished(shared: Api) -> tuple[Api, str]:
    mission_id = shared.mission_id()
    worker = hand(shared)
    worker.finish(worker.claim())
    return shared, mission_id


def test_a_listed_file_that_became_a_link_is_not_followed(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    claim = worker.claim()
    worker.finish(claim)
    target = worker.workspace(claim).root / "work_products" / "summary.md"
    target.unlink()
    target.symlink_to(api.settings.token_path)

    response = api.get(f"{ROOT}/missions/{mission_id}/artifacts/work_products/summary.md")

    assert refusal(response) == (500, "internal_error")
    assert api.token not in response.text


def test_a_range_of_a_file_is_given(finished: tuple[Api, str]) -> None:
    api, mission_id = finished
    path = f"{ROOT}/missions/{mission_id}/artifacts/work_products/summary.md"
    whole = FILES["work_products/summary.md"]

    def part(wanted: str) -> tuple[int, bytes, str | None]:
        response = api.http.get(path, headers={"Range": wanted})
        return response.status_code, response.content, response.headers.get("content-range")

    size = len(whole)
    assert part("bytes=2-4") == (206, whole[2:5], f"bytes 2-4/{size}")
    assert part("bytes=-3") == (206, whole[-3:], f"bytes {size - 3}-{size - 1}/{size}")
    assert part("bytes=4-") == (206, whole[4:], f"bytes 4-{size - 1}/{size}")
    for ignored in ("bytes=99-", "bytes=3-1", "bytes=-", "bytes=0-1,3-4", "lines=1-2"):
        assert part(ignored) == (200, whole, None)


def test_the_log_is_read_while_it_grows_and_after(api: Api) -> None:
    mission_id = api.mission_id()
    path = f"{ROOT}/missions/{mission_id}/log"
    assert refusal(api.get(path)) == (404, "not_found")
    worker = hand(api)
    claim = worker.claim()
    worker.work(claim)
    log = worker.workspace(claim).attempt(1).run_log

    growing = api.get(path, offset=5)
    with log.open("ab") as file:
        file.write(b"line three\n")
    more = api.get(path, offset=growing.headers["x-log-next-offset"])
    sha256 = worker.commit(claim)
    worker.publish(claim)
    worker.mark(claim, sha256)
    whole = api.get(path, attempt=1)

    assert (growing.content, growing.headers["x-log-complete"]) == (FILES["run.log"][5:], "false")
    assert more.content == b"line three\n"
    assert (whole.content, whole.headers["x-log-complete"]) == (FILES["run.log"] + b"line three\n", "true")
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert api.get(path, offset=10_000).content == b""
    assert refusal(api.get(path, attempt=2)) == (404, "not_found")
    assert refusal(api.get(path, attempt=0)) == (400, "validation_error")


def test_a_large_file_comes_whole_and_no_descriptor_is_left(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    large = os.urandom(3_000_000)
    worker.finish(worker.claim(), {"work_products/large.bin": large, "run.log": b"l\n"})
    path = f"{ROOT}/missions/{mission_id}/artifacts/work_products/large.bin"
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        assert api.get(path).content == large
        assert api.http.head(path).headers["content-length"] == str(len(large))

    assert len(os.listdir("/proc/self/fd")) <= before + 3
