"""A candidate in a process of its own that works only when told to: one JSON line in, one JSON line out.

Ours: `Peer(module, …)`. Theirs: `serve(answer)`. Its output goes to a file, as libraries print what they like.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rljob_api.base import Manifest

PATIENCE_SECONDS = 400.0
"""A peer may have to import and build all it needs before its first answer."""

REPLY = "RLJOB_BENCH_REPLY"
"""Names the file descriptor that answers go to."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}

GANG = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"}
"""What makes a library take a process for one of the training ranks."""


class Peer:
    """The other process. `ask` and `answer` are two halves, so that several peers can work at once."""

    def __init__(self, module: str, arguments: Manifest, threads: int, log: Path) -> None:
        reader, writer = os.pipe()
        ours = {name: value for name, value in os.environ.items() if name not in GANG}
        env = {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"} | OFFLINE
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(arguments)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ours | env | {REPLY: str(writer)},
                pass_fds=(writer,),
            )
        os.close(writer)
        self._replies = os.fdopen(reader)
        self._log = log

    def ask(self, question: Manifest) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Manifest:
        """Waits for it: a peer gives one for each question. Raises `RuntimeError` with its last words if none comes."""
        ready, _, _ = select.select([self._replies], [], [], PATIENCE_SECONDS)
        line = self._replies.readline() if ready else ""
        if not line:
            raise RuntimeError(self._log.read_text(errors="replace")[-3000:])
        reply: Manifest = json.loads(line)
        return reply

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._replies.close()


@contextmanager
def peers(module: str, arguments: Manifest, count: int, threads: int, log: Path) -> Iterator[list[Peer]]:
    """`count` of them, ready to be asked."""
    with ExitStack() as started:
        all_peers = [
            started.enter_context(closing(Peer(module, arguments, threads, log))) for _ in range(count)
        ]
        for peer in all_peers:
            peer.answer()
        yield all_peers


def serve(answer: Callable[[Manifest], Manifest]) -> None:
    """The peer's side: says that it is ready, then answers every line until its input ends."""
    tell({})
    for line in sys.stdin:
        tell(answer(json.loads(line)))


def tell(reply: Manifest) -> None:
    os.write(int(os.environ[REPLY]), json.dumps(reply).encode() + b"\n")
