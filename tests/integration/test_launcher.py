"""Real process trees under the launcher: whatever they do, none outlives its worker."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import wait_until
from ua_vp.errors import WorkspaceError
from ua_vp.ports import Command, Exit
from ua_vp.runtime import real_ports
from ua_vp.runtime.children import Child
from ua_vp.runtime.processes import RealProcesses

MARK = "UA_TEST_MARK"

TREE = """
import os, select, signal, sys, time
def pause(seconds=600): select.select([], [], [], seconds)
def ready(): os.write(1, b"ready\\n")
def forked(behave):
    if os.fork() == 0:
        behave(); os._exit(0)
def child(): ready(); pause()
def grandchild(): forked(child); pause()
def daemon():
    os.setsid(); forked(lambda: (os.setsid(), child()))
def deaf():
    for number in (1, 2, 3, 10, 12, 15): signal.signal(number, signal.SIG_IGN)
    ready()
    while True: pause()
def stopped(): ready(); os.kill(os.getpid(), signal.SIGSTOP); pause()
def vanishing(own_session):  # forks a heir and ends, for ever
    ready()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if os.fork(): os._exit(0)
        if own_session: os.setsid()
        pause(0.003)
def storm():
    for number in range(40): forked(lambda: vanishing(number % 2)); forked(child)
kinds = dict(child=child, grandchild=grandchild, daemon=daemon, deaf=deaf, stopped=stopped, storm=storm)
for kind in sys.argv[1:]: forked(kinds[kind])
pause()
"""
READY = {"child": 1, "grandchild": 1, "daemon": 1, "deaf": 1, "stopped": 1, "storm": 80}
KINDS = list(READY)

WORKER = """
import sys
from pathlib import Path
from ua_vp.ports import Command
from ua_vp.runtime import real_ports
mark, expected, *argv = sys.argv[1:]
child = real_ports({}).processes.launch(Command(argv=argv, cwd=Path("/"), env={"UA_TEST_MARK": mark}))
seen = 0
while seen < int(expected):
    seen += child.read()[1].count(b"ready")
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def processes() -> RealProcesses:
    made = real_ports({}).processes
    assert isinstance(made, RealProcesses)
    return made


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """Marks all processes of a test; what a failing test leaves is killed."""
    mark = hashlib.sha256(os.fsencode(tmp_path)).hexdigest() + str(os.getpid())
    yield mark
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """The living processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if alive and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def tree(mark: str, *kinds: str) -> Command:
    return Command(argv=[sys.executable, "-I", "-S", "-c", TREE, *kinds], cwd=Path("/"), env={MARK: mark})


def shell(script: str, *, mark: str = "", stdin: bytes = b"", cwd: Path = Path("/")) -> Command:
    return Command(argv=["sh", "-c", script], cwd=cwd, env={"PATH": os.defpath, MARK: mark}, stdin=stdin)


def outputs(child: Child) -> dict[str, bytes]:
    """All that a child writes, by stream."""
    said = {"stdout": b"", "stderr": b""}
    while True:
        chunk = child.read(timeout=30)
        assert chunk is not None, "nothing more for 30 s"
        if chunk == ("", b""):
            return said
        assert len(chunk[1]) <= 65_536
        said[chunk[0]] += chunk[1]


def launch_tree(processes: RealProcesses, mark: str, *kinds: str) -> Child:
    """A tree of which every branch is up."""
    child = processes.launch(tree(mark, *kinds))
    seen = 0
    while seen < sum(READY[kind] for kind in kinds):
        chunk = child.read(timeout=30)
        assert chunk is not None
        seen += chunk[1].count(b"ready")
    return child


def drained(child: Child) -> Exit:
    outputs(child)
    ended = child.wait(timeout=30)
    assert ended is not None
    return ended


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS], ids="+".join)
def test_no_process_outlives_a_worker_that_is_killed(kinds: list[str], mark: str, repository: Path) -> None:
    expected = str(sum(READY[kind] for kind in kinds))
    argv = [sys.executable, "-c", WORKER, mark, expected, *tree(mark, *kinds).argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=repository) as worker:
        assert worker.stdout is not None
        launcher = int(worker.stdout.readline())
        assert len(marked(mark)) > len(kinds)
        worker.kill()
    wait_until(lambda: not marked(mark), within=10, why="the launcher kills every descendant")
    wait_until(lambda: not exists(launcher), within=10, why="a launcher ends after its tree")


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS], ids="+".join)
def test_a_killed_tree_is_empty_when_wait_returns(kinds: list[str], mark: str, processes: RealProcesses) -> None:
    child = launch_tree(processes, mark, *kinds)
    child.kill()
    assert drained(child) == Exit(code=-signal.SIGKILL)
    assert marked(mark) == []
    assert not exists(child.pid)


def test_what_outlives_the_command_is_killed_and_counted(mark: str, processes: RealProcesses) -> None:
    child = launch_tree(processes, mark, "child", "grandchild", "daemon", "stopped")
    wait_until(lambda: len(marked(mark)) == 6, within=10, why="the daemon's first process has ended")
    os.kill(child.main_pid, signal.SIGUSR1)
    assert drained(child) == Exit(code=-signal.SIGUSR1, stragglers=5)
    assert marked(mark) == []


def test_terminate_reaches_a_command_that_stopped_itself(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("trap 'exit 7' TERM; echo up; kill -STOP $$", mark=mark))
    assert child.read(timeout=30) == ("stdout", b"up\n")
    child.terminate()
    assert drained(child) == Exit(code=7)


def test_the_launcher_itself_holds_no_secret_of_the_worker(
    mark: str, processes: RealProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the worker")
    child = processes.launch(shell("sleep 600", mark=mark))
    assert Path(f"/proc/{child.pid}/environ").read_bytes() == b""
    child.kill()
    drained(child)


def test_terminate_reaches_every_process(mark: str, processes: RealProcesses) -> None:
    child = launch_tree(processes, mark, "child", "grandchild", "daemon", "stopped")
    child.terminate()
    assert drained(child).code == -signal.SIGTERM
    assert marked(mark) == []


def test_who_ignores_the_polite_signal_goes_on_until_the_kill(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("trap '' TERM; echo up; while :; do sleep 0.05; done", mark=mark))
    assert child.read(timeout=30) == ("stdout", b"up\n")
    child.terminate()
    assert child.wait(timeout=0.3) is None
    child.kill()
    assert drained(child).code == -signal.SIGKILL


def test_a_tree_that_stopped_its_launcher_is_killed_all_the_same(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("kill -STOP $PPID; echo up; sleep 600", mark=mark))
    assert child.read(timeout=30) == ("stdout", b"up\n")
    child.kill()
    assert drained(child).code == -signal.SIGKILL


def test_a_tree_that_stopped_its_launcher_does_not_outlive_the_worker(mark: str, repository: Path) -> None:
    argv = [sys.executable, "-c", WORKER, mark, "1", "sh", "-c", "kill -STOP $PPID; echo ready; sleep 600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=repository) as worker:
        assert worker.stdout is not None
        launcher = int(worker.stdout.readline())
        worker.kill()
    wait_until(lambda: not marked(mark) and not exists(launcher), within=10, why="the kernel continues the launcher")


def test_signals_to_the_launcher_do_not_set_its_tree_free(mark: str, processes: RealProcesses) -> None:
    script = "for s in HUP INT QUIT USR1 USR2 ALRM PIPE; do kill -$s $PPID; done; kill -TERM $PPID; sleep 600"
    assert drained(processes.launch(shell(script, mark=mark))).code == -signal.SIGKILL
    assert marked(mark) == []


def test_nobody_vouches_for_a_tree_whose_launcher_was_killed(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("kill -KILL $PPID; exec sleep 600", mark=mark))
    wait_until(lambda: not marked(mark), within=10, why="the kernel ends the command's own process")
    with pytest.raises(WorkspaceError, match=f"process {child.pid}"):
        drained(child)


def test_what_is_left_in_the_group_of_a_tree_without_launcher_is_killed(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("sleep 600 & kill -KILL $PPID; sleep 600", mark=mark))
    with pytest.raises(WorkspaceError):
        drained(child)
    wait_until(lambda: not marked(mark), within=10, why="the last try")


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS], ids="+".join)
def test_the_guard_ends_the_tree_of_a_launcher_that_was_killed(
    kinds: list[str], mark: str, processes: RealProcesses
) -> None:
    child = launch_tree(processes, mark, *kinds)
    os.kill(parent_of(child.main_pid), signal.SIGKILL)
    with pytest.raises(WorkspaceError, match="what it had started with it"):
        drained(child)
    assert marked(mark) == []


@pytest.mark.parametrize("kinds", [[kind] for kind in KINDS] + [KINDS], ids="+".join)
def test_the_launcher_ends_the_tree_when_its_guard_was_killed(
    kinds: list[str], mark: str, processes: RealProcesses
) -> None:
    child = launch_tree(processes, mark, *kinds)
    os.kill(child.pid, signal.SIGKILL)
    assert drained(child) == Exit(code=-signal.SIGKILL)
    assert marked(mark) == []


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 200", 200), ("kill -KILL $$", -9), ("kill -SEGV $$", -11)]
)
def test_how_a_command_ended_is_reported(script: str, code: int, processes: RealProcesses) -> None:
    assert drained(processes.launch(shell(script))) == Exit(code=code)


def test_a_command_has_the_given_folder_environment_and_input_and_nothing_else(
    tmp_path: Path, processes: RealProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the worker")
    text = 'import os, sys; print(os.getcwd(), dict(os.environ), sys.argv[1:]); print(sys.stdin.read()); print(os.listdir("/proc/self/fd"))'
    odd = "ü\udcff\n"
    argv = [sys.executable, "-I", "-S", "-c", text, odd, ""]
    child = processes.launch(
        Command(argv=argv, cwd=tmp_path, env={"A": "1=2\n3", "E": "", "LC_ALL": "C.UTF-8"}, stdin=b"in")
    )
    said = outputs(child)
    lines = said["stdout"].decode(errors="surrogateescape").splitlines()
    expected = {"A": "1=2\n3", "E": "", "LC_ALL": "C.UTF-8"}
    assert lines[0] == f"{tmp_path} {expected!r} {[odd, '']!r}"
    assert lines[1:] == ["in", "['0', '1', '2', '3']"], said["stderr"]
    assert child.wait(timeout=30) == Exit(code=0)


def test_a_command_starts_with_a_clean_set_of_signals(processes: RealProcesses) -> None:
    child = processes.launch(shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"))
    assert [line.split()[1] for line in outputs(child)["stdout"].splitlines()] == [b"0" * 16] * 2
    assert drained(child).code == 0


def test_fifty_megabytes_pass_through_both_streams_without_loss(processes: RealProcesses) -> None:
    script = (
        "import os, sys, threading\n"
        "def pour(fd, byte):\n"
        "    for number in range(400): os.write(fd, (byte + str(number)).encode() * 16_000)\n"
        "other = threading.Thread(target=pour, args=(2, 'e')); other.start(); pour(1, 'o'); other.join()\n"
    )
    child = processes.launch(Command(argv=[sys.executable, "-I", "-S", "-c", script], cwd=Path("/"), env={}))
    digests, size = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}, 0
    while (chunk := child.read(timeout=30)) and chunk[1]:
        digests[chunk[0]].update(chunk[1])
        size += len(chunk[1])
    for stream, byte in (("stdout", "o"), ("stderr", "e")):
        whole = b"".join((byte + str(number)).encode() * 16_000 for number in range(400))
        assert digests[stream].hexdigest() == hashlib.sha256(whole).hexdigest()
    assert size > 45_000_000
    assert child.wait(timeout=30) == Exit(code=0)


def test_a_large_input_does_not_wait_for_its_reader(processes: RealProcesses) -> None:
    child = processes.launch(shell("wc -c", stdin=b"x" * 5_000_000))
    assert outputs(child)["stdout"].strip() == b"5000000"
    assert drained(child).code == 0


def test_read_gives_nothing_on_time_out_and_the_end_once_output_is_closed(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("exec >&- 2>&-; sleep 600", mark=mark))
    assert child.read(timeout=30) == ("", b"")
    assert child.wait(timeout=0.01) is None
    child.kill()
    assert drained(child).code == -signal.SIGKILL
    quiet = processes.launch(shell("sleep 600", mark=mark))
    assert quiet.read(timeout=0.01) is None
    quiet.kill()
    drained(quiet)


@pytest.mark.parametrize(
    ("argv", "kind", "text"),
    [
        (["no-such-tool", "x"], FileNotFoundError, "no-such-tool: not found"),
        (["/etc/passwd"], PermissionError, "/etc/passwd: Permission denied"),
        (["./relative"], FileNotFoundError, "./relative: not found"),
    ],
)
def test_a_command_that_cannot_be_started_is_named(
    argv: list[str], kind: type[OSError], text: str, processes: RealProcesses
) -> None:
    with pytest.raises(kind) as raised:
        processes.launch(Command(argv=argv, cwd=Path("/"), env={"PATH": os.defpath}))
    assert raised.value.strerror == text


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, processes: RealProcesses) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/gone: not found"):
        processes.launch(shell("true", cwd=tmp_path / "gone"))


def test_a_command_with_a_nul_in_it_is_refused(processes: RealProcesses) -> None:
    with pytest.raises(ValueError, match="not a command"):
        processes.launch(Command(argv=["echo", "a\0b"], cwd=Path("/"), env={}))


def test_a_child_that_nobody_waits_for_is_ended(mark: str, processes: RealProcesses) -> None:
    child = processes.launch(shell("sleep 600", mark=mark))
    child._close()  # what its finalizer does
    wait_until(lambda: not marked(mark), within=10, why="the control pipe is closed")
    child._launcher.wait()


def test_a_service_ends_with_its_starter_and_before_on_request(mark: str, repository: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom ua_vp.runtime import real_ports\n"
        "service = real_ports({}).processes.start_service(['sleep', '600'], env={'PATH': '/usr/bin:/bin', 'M': sys.argv[1]})\n"
        "print(service.pid, flush=True); service.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, mark], stdout=subprocess.PIPE, cwd=repository) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        wait_until(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()[:6], within=10, why="it became sleep")
        starter.kill()
    wait_until(lambda: pid not in marked(mark), within=10, why="PDEATHSIG")


def test_a_service_is_polled_stopped_and_writes_where_it_is_told(tmp_path: Path, processes: RealProcesses) -> None:
    environment = {"PATH": os.defpath}
    with (tmp_path / "out").open("wb") as output:
        service = processes.start_service(["sh", "-c", "echo up; exec sleep 600"], env=environment, output=output)
    wait_until(lambda: (tmp_path / "out").read_bytes() == b"up\n", within=10, why="it started")
    assert service.poll() is None
    assert service.wait(timeout=0.01) is None
    assert os.getsid(service.pid) == service.pid
    service.terminate()
    assert service.wait(timeout=10) == service.poll() == -signal.SIGTERM
    gone = processes.start_service(["no-such-tool"], env=environment, errors=subprocess.DEVNULL)
    assert gone.wait(timeout=10) == 1
