"""Real vLLM servers for tests: a tiny Qwen3, each server at a loopback address of its own, as `rljob run` does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config

from ports import free_port
from rljob_api.base import Manifest
from rljob_api.job import JobSpec
from rljob_api.run import Paths, Run
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.builtin.addition.tokenizer import make_tokenizer
from rljob_trainer.rollout.fleet import Fleet
from rljob_trainer.rollout.guard import TOKEN_ENV
from waiting import until

os.environ.setdefault(
    TOKEN_ENV, "secret"
)  # a pod has it from its Secret; servers and trainers here inherit it
T = TypeVar("T")
START_SECONDS = 900.0
SERVE = """
import sys
from pathlib import Path
from rljob_api.run import Run
from rljob_trainer.rollout import server

arguments = server.arguments
server.arguments = lambda *args: arguments(*args) + sys.argv[4:]
server.serve(Run.model_validate_json(Path(sys.argv[1]).read_text()), int(sys.argv[2]), sys.argv[3])
"""


def nothing() -> None:
    """A poll that never interrupts."""


def make_model(directory: Path, hidden: int = 64, layers: int = 2, vocabulary: int = 512) -> PreTrainedModel:
    """A tiny Qwen3 with random weights; its config and tokenizer lie in `directory`, its weights do not."""
    config = Qwen3Config(
        architectures=["Qwen3ForCausalLM"],
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    config.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return new_weights(AutoModelForCausalLM.from_config(config).eval(), 0)


def new_weights(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Draw all weights anew, large enough for a peaked distribution."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.15, generator=generator)
    return model


def a_run(work: Path, replicas: int = 2, attempt: int = 1, **sections: Manifest) -> Run:
    """A job on CPU whose servers listen on one port of 127.0.0.11, 127.0.0.12, …"""
    least: Manifest = {
        "model": {"source": str(work / "model")},
        "data": {"train": {"source": "builtin:addition"}},
        "reward": {"builtin": "exactMatch"},
        "algorithm": {"sampling": {"maxNewTokens": 16}},
        "rollout": {"replicas": replicas, "vllm": {"kvCacheMib": 32, "maxNumSeqs": 32, "maxModelLen": 128}},
        "weightSync": {"transport": "gloo", "timeoutSeconds": 60},
    }
    return Run(
        name="demo",
        namespace="default",
        uid="1111",
        attempt=attempt,
        token=f"{attempt}-token",
        spec=JobSpec.parse(least | sections),
        paths=Paths(storage=str(work / "storage"), cache=str(work / "cache")),
        master_addr="127.0.0.1",
        master_port=0,
        progress_port=0,
        rollout_hosts=[f"127.0.0.{11 + index}" for index in range(replicas)],
        rollout_port=free_port(),
    )


@dataclass
class Servers:
    """The server processes of a run."""

    run: Run
    work: Path
    arguments: tuple[str, ...] = ()
    """Of vLLM, beside those that it always gets; the last one wins."""
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, index: int) -> None:
        (self.work / "run.json").write_text(self.run.model_dump_json(by_alias=True))
        log = (self.work / f"server-{index}.log").open("ab")
        command = [sys.executable, "-c", SERVE, str(self.work / "run.json"), str(index)]
        self.processes[index] = subprocess.Popen(
            [*command, self.run.rollout_hosts[index], *self.arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
            start_new_session=True,
        )
        log.close()

    def wait_until_up(self, fleet: Fleet, indices: set[int]) -> None:
        """Until these servers answer; shows the log of one that died."""

        def up() -> bool:
            for index in indices:
                if self.processes[index].poll() is not None:
                    raise RuntimeError((self.work / f"server-{index}.log").read_text()[-4000:])
            return {server.client.index for server in fleet.look()} >= indices

        until(up, f"servers {sorted(indices)} answer", START_SECONDS, 0.05)

    def kill(self, index: int) -> None:
        """As when its node is lost: no word, no clean-up; its engine process goes too."""
        process = self.processes.pop(index)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def hang(self, index: int) -> None:
        """It stays there, with its connections, and does nothing."""
        os.killpg(self.processes[index].pid, signal.SIGSTOP)

    def wake(self, index: int) -> None:
        os.killpg(self.processes[index].pid, signal.SIGCONT)

    def stop(self) -> None:
        for index in list(self.processes):
            self.kill(index)


@contextmanager
def servers_of(run: Run, work: Path, *arguments: str) -> Iterator[tuple[Servers, Fleet]]:
    """All servers of a run, once they answer, and a client of them; `arguments` as of `Servers`."""
    servers, fleet = Servers(run, work, arguments), Fleet(run)
    indices = set(range(len(run.rollout_hosts)))
    try:
        for index in indices:
            servers.start(index)
        servers.wait_until_up(fleet, indices)
        yield servers, fleet
    finally:
        fleet.close()
        servers.stop()


class Alone:
    """A gang of one rank."""

    leads = True

    def from_leader(self, make: Callable[[], T]) -> T:
        return make()


def some_prompts(count: int, seed: int = 0) -> list[Prompt]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(3, 512, (count, 6), generator=generator).tolist()
    return [Prompt(index=index, text="", token_ids=row, answer="") for index, row in enumerate(rows)]


def expected_logprobs(
    model: PreTrainedModel, sample: Sample, temperature: float = 1.0, top_p: float = 1.0
) -> Tensor:
    """[T] log-probabilities of the sample's tokens under the distribution that it was drawn from, by transformers."""
    prompt = sample.prompt.token_ids
    with torch.no_grad():
        logits_TV = model(torch.tensor([prompt + sample.token_ids])).logits[0, len(prompt) - 1 : -1]
    probabilities_TV = torch.softmax(logits_TV.double() / temperature, -1)
    if top_p < 1:
        ordered_TV, order_TV = probabilities_TV.sort(-1, descending=True)
        beyond_TV = ordered_TV.cumsum(-1) - ordered_TV >= top_p
        probabilities_TV = torch.zeros_like(probabilities_TV).scatter(
            -1, order_TV, ordered_TV.masked_fill(beyond_TV, 0)
        )
        probabilities_TV /= probabilities_TV.sum(-1, keepdim=True)
    index_T1 = torch.tensor(sample.token_ids)[:, None]
    return probabilities_TV.log().gather(-1, index_T1)[:, 0].float()


def largest_difference(model: PreTrainedModel, samples: list[Sample], **distribution: float) -> float:
    """Between the samples' log-probabilities and those that transformers finds."""
    return max(
        float((torch.tensor(s.logprobs) - expected_logprobs(model, s, **distribution)).abs().max())
        for s in samples
    )
