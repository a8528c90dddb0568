"""A rollout server's stand-in, and the trainer's real gang beside it: loop, weights over the volume, checkpoints.

It answers from the seed and the step of the weights, as vLLM on CPU does, and can hold back what comes after some
answers: the gang is then in the middle of generating for as long as a test likes.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from aiohttp import web

from pids import children
from ports import free_port
from rljob_api.manifest import ProcessVersions
from rljob_api.progress import Ending, LastWords, Resumed
from rljob_api.run import Run
from rljob_trainer.launch import launch
from rljob_trainer.rollout.background import Background
from rljob_trainer.rollout.group import bodies
from rljob_trainer.rollout.guard import INSTANCE_HEADER, TOKEN_ENV, WEIGHTS_HEADER
from rljob_trainer.words import TERMINATION_LOG_ENV, read_last_words
from trainer.ranks import context
from trainer.vllm_server import a_run, make_model
from waiting import DEADLINE_SECONDS, until

HOST = "127.0.0.31"
GROUP = 4
PROMPTS = 6
REWARD = "def score(prompt, completion, answer, item):\n    return float(int(completion) % 3)\n"


@dataclass
class Server:
    """Answers in a thread of the test."""

    port: int = 0
    hold_after: int | None = None
    """So many groups are answered, no more."""
    hold_update: str = ""
    """The call that is answered in the first update only, as by a server whose engine hangs then."""
    instance: str = "the-one"
    device: str = "cpu AVX512"
    """What it says that it computes with."""
    aborted_proofs: int = 0
    """So many of the completions that prove an update are cut off, as a server does that was told to go."""
    asked: list[int] = field(default_factory=list)
    """Seeds of the groups that were asked for, warm-up aside."""
    controls: list[str] = field(default_factory=list)
    """Calls of updates, oldest first."""
    answered: int = 0
    _held: int = 0
    _version: str = "default"
    _background: Background = field(default_factory=Background)
    _runner: web.AppRunner | None = None

    async def _post(self, request: web.Request) -> web.Response:
        self.controls.append(request.path)
        while request.path == self.hold_update and self.controls.count(request.path) > 1:
            await asyncio.sleep(0.01)
        if request.path == "/finish_weight_update":
            self._version = (await request.json())["weight_version"]
        return self._told({})

    async def _info(self, _: web.Request) -> web.Response:
        return self._told({"weight_version": self._version})

    async def _tell(self, _: web.Request) -> web.Response:
        worker = ProcessVersions(rljob="0", torch="0", transformers="0", device=self.device)
        return self._told({"results": [worker.model_dump(by_alias=True)]})

    async def _models(self, _: web.Request) -> web.Response:
        return self._told({"data": [{"max_model_len": 64}]})

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["n"] == GROUP:
            self.asked.append(body["seed"])
            await self._hold()
            self.answered += 1
        choices = [self._choice(number, body["seed"] + number) for number in range(body["n"])]
        if body["n"] == 1 and self.aborted_proofs:
            self.aborted_proofs -= 1
            choices[0]["finish_reason"] = "abort"
        return self._told({"choices": choices})

    async def _hold(self) -> None:
        """Until there is an answer to be given, or who asked is gone."""
        self._held += 1
        try:
            while self.hold_after is not None and self.answered >= self.hold_after:
                await asyncio.sleep(0.01)
        finally:
            self._held -= 1

    def _choice(self, number: int, seed: int) -> dict[str, Any]:
        draw = random.Random(f"{self._version.split('.')[-1]}/{seed}")
        tokens = [draw.randrange(3, 512) for _ in range(draw.randrange(1, 5))]
        logprobs = [-10 * draw.random() for _ in tokens]
        told = {"index": number, "token_ids": tokens, "text": str(draw.randrange(99))}
        return told | {"finish_reason": "stop", "logprobs": {"token_logprobs": logprobs}}

    def _told(self, body: Any) -> web.Response:
        marks = {INSTANCE_HEADER: self.instance, WEIGHTS_HEADER: self._version}
        return web.json_response(body, headers=marks)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/weight_info", self._info)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/collective_rpc", self._tell)
        app.router.add_post("/{control}", self._post)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()

    def serve(self) -> None:
        self._background.submit(self._start()).result()

    def begin_anew(self, hold_after: int | None = None) -> None:
        """For the next attempt, once the questions of the one before have gone with it: else they were answered now."""
        until(lambda: self._held == 0, "nobody is held")
        self.hold_after = hold_after
        self.asked.clear()

    def replace(self, device: str) -> None:
        """By one on such a device, which knows no weights and answers all."""
        self.instance, self.device, self._version = "its-successor", device, ""
        self.asked.clear()
        self.hold_after = None

    def end(self) -> None:
        self.hold_after, self.hold_update = None, ""
        if self._runner:
            self._background.submit(self._runner.cleanup()).result()
        self._background.close()


@dataclass
class Job:
    """A job of three steps, in attempts that a test starts and ends."""

    folder: Path
    port: int
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the spec, by section."""
    attempt: int = 0
    process: ForkServerProcess | None = None

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def rollouts(self) -> list[Path]:
        """Files of kept groups."""
        return sorted((self.storage / "rollouts").glob("step_*"))

    def kept(self, step: int) -> int:
        """Whole groups on the volume of the step that begins with so many finished ones."""
        files = [path.read_bytes() for path in self.rollouts if path.name.startswith(f"step_{step}-")]
        return sum(sum(body is not None for body in bodies(data)) - 1 for data in files)

    def start(self) -> None:
        self.attempt += 1
        process = context().Process(target=_launch, args=(self.run(), self.folder, self.attempt))
        process.start()
        self.process = process

    def run(self) -> Run:
        grpo = {
            "maxSteps": 3,
            "promptsPerStep": PROMPTS,
            "generationsPerPrompt": GROUP,
            "validationPeriod": 0,
        }
        sections: dict[str, Any] = {
            "model": {"source": str(self.folder.parent / "model")},
            "algorithm": {"grpo": grpo | {"learningRate": 1e-3}, "sampling": {"maxNewTokens": 8}},
            "reward": {"python": {"module": "by_number", "function": "score"}},
            "dtensor": {"attentionDropout": 0.1},
            "trainer": {"numProcPerNode": 2},
            "weightSync": {"transport": "disk"},
            "checkpoint": {"savePeriod": 1, "finishedRollouts": {"afterSeconds": 0}},
        }
        run = a_run(self.folder, replicas=1, attempt=self.attempt, **sections | self.changes)
        ports = {"master_port": free_port(), "rollout_port": self.port, "progress_port": free_port()}
        return run.model_copy(update={"rollout_hosts": [HOST], **ports})

    def finish(self) -> LastWords:
        """Wait for the attempt's end."""
        assert self.process is not None
        self.process.join(DEADLINE_SECONDS)
        assert self.process.exitcode is not None, "it did not end"
        words = read_last_words(self.folder / f"words-{self.attempt}")
        assert words is not None
        return words

    def resumed(self) -> Resumed:
        """Start the next attempt, which is Complete at its end; what it says of its resume."""
        self.start()
        words = self.finish()
        assert words.ending is Ending.COMPLETE, words.message
        assert words.progress is not None
        assert words.progress.resumed is not None
        return words.progress.resumed

    def end_at(self, step: int, groups: int, how: signal.Signals, rank: int = 0) -> LastWords:
        """End one rank, and so the attempt, once so many groups of a step are kept."""
        until(lambda: self.kept(step) == groups, f"{groups} groups are kept", DEADLINE_SECONDS)
        return self.end(how, rank)

    def end(self, how: signal.Signals, rank: int) -> LastWords:
        """End one rank, and so the attempt."""
        os.kill(self.ranks()[rank], how)
        return self.finish()

    def ranks(self) -> list[int]:
        """Their processes."""
        assert self.process is not None
        assert self.process.pid is not None
        return children(self.process.pid)

    def kill(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        if self.process is None or self.process.pid is None:
            return
        with suppress(ProcessLookupError, FileNotFoundError):  # it has ended
            os.kill(self.process.pid, signal.SIGSTOP)  # it buries no rank before that is killed
            for pid in self.ranks():
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def results(self) -> tuple[dict[str, bytes], bytes]:
        """All samples, and the trained weights."""
        samples = {path.name: path.read_bytes() for path in (self.storage / "samples").glob("*.jsonl")}
        return samples, (self.storage / "export" / "model.safetensors").read_bytes()


def _launch(run: Run, folder: Path, attempt: int) -> None:
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    Path("by_number.py").write_text(REWARD)
    sys.path.insert(0, str(folder))
    with Path(f"log-{attempt}").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ |= {TERMINATION_LOG_ENV: str(folder / f"words-{attempt}"), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"POD_IP": "127.0.0.1", TOKEN_ENV: "secret"}
    sys.exit(launch(run, 0))


def a_model(folder: Path) -> None:
    """What the jobs beside it train."""
    make_model(folder).save_pretrained(folder)


@contextmanager
def answering(hold_after: int | None = None) -> Iterator[Server]:
    server = Server(free_port(), hold_after)
    try:
        server.serve()
        yield server
    finally:
        server.end()


@contextmanager
def job_beside(server: Server, folder: Path, **changes: Any) -> Iterator[Job]:
    job = Job(folder, server.port, changes)
    folder.mkdir()
    try:
        yield job
    finally:
        job.kill()
