"""The two processes around a pod's program that let nothing of it outlive the pod: standard library only.

    rljob run ── guard ── keeper ── program ── whatever it forks

Guard and keeper are "child subreapers": an orphan below them becomes their child, even if it left its session, so that
they find and kill all of it. When `rljob run` dies, by whatever means, the guard's standard input ends; when the guard
dies, the keeper's pipe ends; when the keeper dies, the kernel kills the program and the guard finds the rest.

Run by `process.py` as `python -I -S shim.py LIFELINE PROGRAM ARGUMENT…`. Orders are lines on standard input: `term
SECONDS` sends SIGTERM and, that much later, SIGKILL; `kill` sends SIGKILL. Exits as the program did (128 + N for
signal N). The file descriptor LIFELINE stays open in both processes: it ends when all of the pod is gone.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
EXIT_NOT_FOUND = 127


def main(lifeline: int, program: list[str]) -> NoReturn:
    os.set_inheritable(lifeline, False)  # guard and keeper hold it, the program does not
    become_subreaper()
    wake = wake_on_child()
    orders, relay = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(relay)
        keep(program, orders)
    os.close(orders)
    watch(keeper, 0, wake, lambda data: relay_to(relay, data))


def keep(program: list[str], orders: int) -> NoReturn:
    """The inner process: starts the program and carries out orders."""
    become_subreaper()
    wake = wake_on_child()
    child = start(program)
    watch(child, orders, wake, Orders(child).obey)


class Orders:
    """Lines from `rljob run`, and the deadline that the last one set."""

    def __init__(self, child: int) -> None:
        self.child = child
        self.deadline = float("inf")

    def obey(self, data: bytes) -> float:
        for line in data.decode().splitlines():
            word, _, seconds = line.partition(" ")
            if word == "term" and self.deadline == float("inf"):
                os.kill(self.child, signal.SIGTERM)
                self.deadline = time.monotonic() + float(seconds)
            elif word == "kill":
                self.deadline = 0.0
        if time.monotonic() >= self.deadline:
            os.kill(self.child, signal.SIGKILL)
        return self.deadline


def relay_to(pipe: int, data: bytes) -> float:
    if data:
        try:
            os.write(pipe, data)
        except BrokenPipeError:  # the keeper is dead, which its end will tell
            return float("inf")
    return float("inf")


def watch(child: int, orders: int, wake: int, obey: Callable[[bytes], float]) -> NoReturn:
    """Until `child` ends or nobody gives orders any more; then kill what is left below this process."""
    deadline = float("inf")
    while (code := reap(child)) is None:
        left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        readable, _, _ = select.select([orders, wake], [], [], left)
        if wake in readable:
            os.read(wake, 4096)
        data = os.read(orders, 4096) if orders in readable else b""
        if orders in readable and not data:
            code = 128 + signal.SIGKILL
            break
        deadline = obey(data)
    kill_everything_below()
    os._exit(code)


def reap(child: int) -> int | None:
    """Collect whoever ended; the exit code of `child` if it was among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 128 + signal.SIGKILL
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def kill_everything_below() -> None:
    """A process killed between two looks may just have forked: look again until no child is left."""
    while True:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # ended by itself since the look
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def descendants(root: int) -> list[int]:
    """All processes below `root`, from their parents' ids in /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the start-up of each pod's processes
        if entry.isdigit() and (parent := parent_of(entry)) is not None:
            children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    level = [root]
    while level:
        level = [pid for parent in level for pid in children.get(parent, [])]
        found += level
    return found


def parent_of(pid: str) -> int | None:
    """None if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - as above
            after_name = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(after_name[1])


def start(program: list[str]) -> int:
    """Fork and execute; the kernel kills the program when this process dies."""
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:  # it died before the line above
        os._exit(128 + signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        os.write(2, f"cannot start {program[0]}: {error.strerror}\n".encode())
        os._exit(EXIT_NOT_FOUND)


def wake_on_child() -> int:
    """A pipe that becomes readable when a child ends. Signals meant for the program come as orders, not here."""
    wake, write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return wake


def become_subreaper() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
