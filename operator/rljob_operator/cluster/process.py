"""One local pod from start to end, one process at a time: what a kubelet does. A thread each, started by `local.py`."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rljob_api.progress import EXIT_PREEMPTED

from ..observed import Pod, PodPhase
from . import shim
from .addresses import is_free
from .container import Container
from .gpus import Gpus
from .last_words import last_words
from .probes import Health, health

RETRY_SECONDS = 0.2
PORT_PATIENCE_SECONDS = 5.0
"""A port of a pod that just ended may take a moment to be free."""


class PodProcess(threading.Thread):
    """`self.pod` is always the newest snapshot; `changed` is called after each new one."""

    def __init__(
        self,
        pod: Pod,
        containers: Sequence[Container],
        cwd: Path,
        gpus: Gpus,
        changed: Callable[[], None],
    ) -> None:
        """`containers`: one after the other; all but the last are init containers, which must end well."""
        super().__init__(name=pod.name, daemon=True)
        self.pod = pod
        *self._before, self.container = containers
        self._cwd = cwd
        self._gpus = gpus
        self._changed = changed
        self._told_to_go = threading.Event()
        self._guard: subprocess.Popen[bytes] | None = None
        self._orders = threading.Lock()
        self._snapshot = threading.Lock()
        self._killed_because = ""

    def run(self) -> None:
        try:
            if self._wait_for_ports() and (gpus := self._wait_for_gpus()) is not None:
                self._run_all(gpus)
        except OSError as error:  # no room for its log, no process left: a pod that could not be started
            self._never_ran(f"cannot be started: {error}")
        finally:
            self._gpus.give_back(self.container.name)

    def terminate(self, within: int | None = None) -> None:
        """SIGTERM now, SIGKILL after so many seconds, or the pod's grace period."""
        self._set(terminating=True)
        self._told_to_go.set()
        seconds = (
            self.container.grace_seconds if within is None else min(within, self.container.grace_seconds)
        )
        self._order(f"term {seconds}\n")

    def kill(self) -> None:
        self._set(terminating=True)
        self._told_to_go.set()
        self._order("kill\n")

    def _run_all(self, gpus: list[str]) -> None:
        for container in self._before:
            self._set(initializing=container.spec["name"])
            code = self._live(container, [])
            if code != 0 or self._told_to_go.is_set():
                self._set(initializing="", ended_in=container.spec["name"])
                self._end(container, code or EXIT_PREEMPTED)
                return
        self._set(initializing="", phase=PodPhase.RUNNING)
        self._end(self.container, self._live(self.container, gpus))

    def _live(self, container: Container, gpus: list[str]) -> int:
        """One container from start to end; its exit code."""
        lifeline = self._start(container, gpus)
        try:
            if self._told_to_go.is_set():  # told to go while it was being started
                self._order("term 0\n")
            self._watch(container, lifeline)
        finally:
            os.close(lifeline)
        return self._exit_code()

    def _wait_for_ports(self) -> bool:
        """Ends the pod with a sentence when somebody else listens at its address."""
        deadline = time.monotonic() + PORT_PATIENCE_SECONDS
        while taken := [port for port in self.container.ports if not is_free(self.container.address, port)]:
            message = (
                f"port {taken[0]} at {self.container.address} is in use by another program; "
                f"find it with `ss -ltnp 'sport = :{taken[0]}'`, stop it, and run the job again"
            )
            if time.monotonic() > deadline:
                self._never_ran(message)
                return False
            self._set(message=message)
            if self._told_to_go.wait(RETRY_SECONDS):
                self._never_ran("told to go before it started")
                return False
        return True

    def _wait_for_gpus(self) -> list[str] | None:
        while isinstance(found := self._gpus.take(self.container.name, self.container.gpus), str):
            self._set(message=found)
            if self._told_to_go.wait(RETRY_SECONDS):
                self._never_ran("told to go before it started")
                return None
        return found

    def _start(self, container: Container, gpus: list[str]) -> int:
        """Start guard, keeper and program; returns the end of the lifeline that tells when all of them are gone."""
        container.termination_log.parent.mkdir(parents=True, exist_ok=True)
        container.termination_log.write_text("")
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        ours, theirs = os.pipe()
        with self._orders, container.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", shim.__file__, str(theirs), *container.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **visible, **container.env},
                cwd=self._cwd,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C in a terminal is ours to obey, not the pods'
            )
        os.close(theirs)
        self._set(started_at=self.pod.started_at or time.time(), message="")
        return ours

    def _watch(self, container: Container, lifeline: int) -> None:
        """Probe until the container is gone. Without a readiness probe the pod is ready as soon as it runs."""
        state = health(container.spec, time.monotonic())
        self._set(ready=state.ready and not self.pod.initializing)
        while not self._gone(lifeline, state):
            if self._told_to_go.is_set() or time.monotonic() < state.next_due:
                continue
            state = state.look(container.address, time.monotonic())
            self._set(ready=state.ready)
            if state.dead and not self._killed_because:
                self._killed_because = state.dead
                self._order(f"term {container.grace_seconds}\n")

    def _gone(self, lifeline: int, state: Health) -> bool:
        """Wait for the end of the lifeline, but no longer than until the next probe."""
        if self._told_to_go.is_set() or state.next_due == float("inf"):
            wait = 1.0
        else:
            wait = max(0.0, state.next_due - time.monotonic())
        readable, _, _ = select.select([lifeline], [], [], wait)
        return bool(readable)

    def _exit_code(self) -> int:
        assert self._guard is not None
        with self._orders:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
        code = self._guard.wait()
        return code if code >= 0 else 128 - code

    def _end(self, container: Container, code: int) -> None:
        words, said = last_words(container, code)
        self._set(
            phase=PodPhase.SUCCEEDED if code == 0 else PodPhase.FAILED,
            ready=False,
            finished_at=time.time(),
            exit_code=code,
            last_words=words,
            message=self._killed_because or said,
        )

    def _never_ran(self, message: str) -> None:
        self._set(phase=PodPhase.FAILED, finished_at=time.time(), message=message)

    def _order(self, line: str) -> None:
        with self._orders:
            stdin = self._guard.stdin if self._guard else None
            if stdin is None or stdin.closed:
                return
            with contextlib.suppress(BrokenPipeError):  # the guard is gone, and so is the pod
                stdin.write(line.encode())
                stdin.flush()

    def _set(self, **changes: object) -> None:
        with self._snapshot:  # `terminate` is called from another thread
            old = self.pod
            self.pod = replace(old, **changes)  # type: ignore[arg-type]  # the callers name fields
            moved = self.pod != old
        if moved:
            self._changed()
