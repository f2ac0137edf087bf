"""Start one command and answer for all its descendants: a program of its own, `python -I -S launcher.py …`.

`launcher.py run CONTROL STATUS BIRTH REQUEST PARENT`: a child subreaper, so every orphan below it becomes its child.
Standard input, output and error are the command's. REQUEST (a file) holds the command, see `read_request`. Over STATUS
goes one JSON object a line: `{"ended": code}` (minus the signal), `{"empty": true, "stragglers": n}` when no descendant
is left. Over BIRTH the command's process itself says `{"started": pid}` and, if it must, `{"failed": errno, "step":
"cwd" | "exec"}`; the end of BIRTH after the first alone means that the command runs, even if it stops or kills us in
its first instant. Over CONTROL come lines `term` and `kill`; its end, which the kernel brings about however the parent
dies, means `kill`. There are two of it: the second does all this, the first only waits for the end of the second, and
should that be killed, ends what it leaves; should the first be killed, the second ends everything. The first's exit
status is 0 when nobody is left.

`launcher.py tie SIGNAL PARENT ARGV…`: ask for SIGNAL when the parent's thread ends, then become ARGV.

Nothing is imported that is not needed: a start costs about 15 ms.
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FIRST_PAUSE, LONGEST_PAUSE = 10, 1000  # milliseconds between two rounds of killing
libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    """Become what the first argument says."""
    if arguments[0] == "tie":
        tie(int(arguments[1]), int(arguments[2]), arguments[3:])
    control, status, birth, request, parent = map(int, arguments[1:])
    for descriptor in (control, status, birth, request):
        os.set_inheritable(descriptor, False)
    die_with(parent, signal.SIGCONT)
    guard = stand_guard(control, status, birth, request)
    Launcher(control, status, guard).run(birth, *read_request(request))


def tie(number: int, parent: int, argv: list[str]) -> None:
    """Become `argv`, which gets signal `number` when the thread that started us ends."""
    die_with(parent, number)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execvp(argv[0], argv)  # noqa: S606


def prctl(option: int, value: int) -> None:
    """Set one property of this process.

    Raises:
        OSError: the kernel refuses.
    """
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def die_with(parent: int, number: int) -> None:
    """Ask for signal `number` when the parent ends; it may have ended before we asked."""
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def stand_guard(*descriptors: int) -> int:
    """Fork: returns in the child, which is the launcher, its parent's id; the parent ends when nobody is left below it.

    Orphans of a killed launcher become the guard's children. Signals to the guard are meant for the launcher.
    """
    guard = os.getpid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    launcher = os.fork()
    if launcher == 0:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        die_with(guard, signal.SIGCONT)
        return guard
    for descriptor in descriptors:
        os.close(descriptor)
    detach_standard_streams()
    ignore_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(launcher, number)

    for number in (signal.SIGTERM, signal.SIGCONT):
        signal.signal(number, pass_on)
    os.waitpid(launcher, 0)
    while bury():
        kill_descendants()
        select.select([], [], [], FIRST_PAUSE / 1000)
    os._exit(0)


def ignore_signals() -> None:
    """From now on none means anything."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)


def bury() -> bool:
    """Collect our dead children; whether a living one is left."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        return False
    return True


def read_request(descriptor: int) -> tuple[str, list[str], dict[str, str]]:
    """Folder, argv, environment: `cwd`, the number of arguments, each argument, each `NAME=value`, a NUL after each."""
    with os.fdopen(descriptor, "rb") as file:
        cwd, count, *rest = [os.fsdecode(part) for part in file.read().split(b"\0")[:-1]]
    argv, pairs = rest[: int(count)], rest[int(count) :]
    return cwd, argv, dict(pair.split("=", 1) for pair in pairs)


class Launcher:
    """The launcher once it is a subreaper; `main_pid` is the command's process, `code` is set when that has ended."""

    def __init__(self, control: int, status: int, guard: int) -> None:
        self.control, self.status, self.guard = control, status, guard
        self.main_pid = 0
        self.code: int | None = None
        self.ordered = False  # to end everything
        self.stragglers = 0
        self.wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def run(self, birth: int, cwd: str, argv: list[str], env: dict[str, str]) -> None:
        """Start the command, wait for its end or for orders, end all that is left."""
        self.take_signals()
        launcher = os.getpid()
        self.main_pid = os.fork()
        if self.main_pid == 0:
            become(launcher, birth, cwd, argv, env)
        os.close(birth)
        detach_standard_streams()
        try:
            while self.code is None and not self.ordered:
                self.listen(None)
                self.reap()
        finally:
            self.end_all()
        self.report(f'{{"empty": true, "stragglers": {self.stragglers}}}')

    def take_signals(self) -> None:
        """SIGTERM is the order to end everything, SIGCHLD wakes us, no other signal means anything.

        SIGCONT comes when the guard or the worker dies: it works even if the command has stopped us.
        """
        ignore_signals()
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self.take_order)
        signal.signal(signal.SIGCONT, self.take_order)

    def take_order(self, number: int, _frame: object) -> None:
        """End everything, if this is the order to or the guard is gone."""
        self.ordered = self.ordered or number == signal.SIGTERM or os.getppid() != self.guard

    def report(self, line: str) -> None:
        """Tell the parent; if it is gone, nobody wants to know."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.status, line.encode() + b"\n")

    def listen(self, timeout: int | None) -> None:
        """Wait for a signal or an order, at most `timeout` ms, and do what is ordered."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        if self.control >= 0:
            poll.register(self.control, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(timeout)}
        if self.wake in ready:
            os.read(self.wake, 4096)
        if self.control in ready:
            order = os.read(self.control, 4096)
            if not order:
                self.control = -1
            self.ordered = self.ordered or not order or b"kill" in order
            if b"term" in order:
                signal_groups(descendants(), signal.SIGTERM, signal.SIGCONT)

    def reap(self) -> bool:
        """Collect the dead; whether any child is left. None left means no descendant: orphans would be ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main_pid:
                self.code = os.waitstatus_to_exitcode(status)
                self.report(f'{{"ended": {self.code}}}')

    def end_all(self) -> None:
        """Kill and reap until nobody is left; whoever outlived the command's own end is a straggler."""
        pause, before = FIRST_PAUSE, set[int]()
        if self.reap() and not self.ordered:
            self.stragglers = sum(state not in "ZX" for _, _, state in descendants())
        while self.reap():
            killed = kill_descendants()
            pause = FIRST_PAUSE if killed - before else min(2 * pause, LONGEST_PAUSE)
            before = killed
            self.listen(pause)


def become(launcher: int, birth: int, cwd: str, argv: list[str], env: dict[str, str]) -> None:
    """In the forked child: a clean process state, then the command; a failure is told over `birth` and ends the child."""
    step, failed = "exec", errno.EINVAL
    try:
        signal.set_wakeup_fd(-1)
        os.write(birth, f'{{"started": {os.getpid()}}}\n'.encode())
        os.setsid()
        die_with(launcher, signal.SIGKILL)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        step = "cwd"
        os.chdir(cwd)
        step = "exec"
        execute(argv, env)
    except OSError as error:
        failed = error.errno or failed
    finally:
        os.write(birth, f'{{"failed": {failed}, "step": "{step}"}}\n'.encode())
        os._exit(127)


def execute(argv: list[str], env: dict[str, str]) -> None:
    """execve(2) along the PATH of the command's own environment.

    Raises:
        OSError: the most telling one: what was found but cannot be run goes before not found.
    """
    if "/" in argv[0]:
        os.execve(argv[0], argv, env)  # noqa: S606
    telling = OSError(errno.ENOENT, "not found")
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        try:
            os.execve(os.path.join(folder, argv[0]), argv, env)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            telling = error
    raise telling


def detach_standard_streams() -> None:
    """The pipes are the command's alone: their end is the end of its output."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def descendants() -> list[tuple[int, int, str]]:
    """(process, its group, its state) of all below us now, by one look over /proc."""
    children: dict[int, list[tuple[int, int, str]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := read_stat(name)):
            parent, group, state = found
            children.setdefault(parent, []).append((int(name), group, state))
    below = list(children.get(os.getpid(), []))
    for pid, _, _ in below:
        below += children.get(pid, [])
    return below


def kill_descendants() -> set[int]:
    """One round of SIGKILL over /proc, from low process numbers to high; who was met alive.

    Each is killed the moment it is met: a process that forks an heir and ends, over and over, is gone by the end of a
    look at all of them. Who is missed because its parent comes later is our own child after the parent's death.
    """
    ours, alive = {os.getpid()}, set[int]()
    with os.scandir("/proc") as entries:
        for name in (entry.name for entry in entries if entry.name.isdigit()):
            found = read_stat(name)
            if found and found[0] in ours:
                ours.add(int(name))
                if found[2] not in "ZX":
                    alive.add(int(name))
                    signal_groups([(int(name), *found[1:])], signal.SIGKILL)
    return alive


def read_stat(name: str) -> tuple[int, int, str] | None:
    """(parent, group, state) of a process (proc(5)); nothing if it has gone."""
    try:
        descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return int(fields[1]), int(fields[2]), fields[0].decode()


def signal_groups(processes: list[tuple[int, int, str]], *numbers: int) -> None:
    """Send signals to the groups of `processes`: a group takes a signal in one instant, so no fork slips through.

    All groups below us are of sessions that began below us (the command starts with setsid), so nobody else is hit.
    """
    ours = os.getpgrp()
    groups = {group for _, group, _ in processes} - {0, ours}
    odd = {pid for pid, group, _ in processes if group in {0, ours}}
    for number in numbers:
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        for pid in odd:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


if __name__ == "__main__":
    main(sys.argv[1:])
