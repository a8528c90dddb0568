"""The rollout pod: finds the model's config and tokenizer, then becomes vLLM's OpenAI server, unmodified.

Called by `python -m rljob_trainer rollout`. The server starts with random weights (`--load-format dummy`): the trainer
pushes the real ones before the first question, so a replica never reads the checkpoint.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from rljob_api.model import BUILTIN_MODELS
from rljob_api.run import Run
from rljob_trainer.builtin.addition.cache import skeleton_path
from rljob_trainer.builtin.addition.recipe import RECIPES
from rljob_trainer.checkpoint.durable import storage_errors
from rljob_trainer.errors import Mistake
from rljob_trainer.model_source import checked_directory
from rljob_trainer.rollout.answers import MODEL
from rljob_trainer.rollout.vllm_worker import EXTENSION

ENGINE = "rljob"
STORAGE_ENV = "RLJOB_STORAGE"
MIB = 1 << 20


def arguments(run: Run, model: str, host: str) -> list[str]:
    """vLLM's command line, without the interpreter."""
    rollout, spec = run.spec.rollout, run.spec
    return [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--served-model-name", MODEL, "--load-format", "dummy"),
        *("--host", host, "--port", str(run.rollout_port)),
        "--disable-uvicorn-access-log",  # a line a completion: nobody would find anything else in a job's logs
        *("--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"),
        *("--seed", str(spec.algorithm.grpo.seed)),
        *("--max-num-seqs", str(rollout.vllm.max_num_seqs)),
        *("--tensor-parallel-size", str(rollout.tensor_parallel)),
        *("--weight-transfer-config", f'{{"backend": "{ENGINE}"}}'),
        *("--worker-extension-cls", EXTENSION),
        *("--middleware", "rljob_trainer.rollout.guard.ControlGuard"),
        *_model_arguments(run, model),
        *(_gpu_arguments(run) if spec.on_gpu else _cpu_arguments(run)),
        *rollout.vllm.extra_args,
    ]


def _model_arguments(run: Run, model: str) -> list[str]:
    arguments = []
    if run.spec.rollout.vllm.max_model_len is not None:
        arguments += ["--max-model-len", str(run.spec.rollout.vllm.max_model_len)]
    if run.spec.model.trust_remote_code:
        arguments += ["--trust-remote-code"]
    if not Path(model).is_absolute():
        arguments += ["--revision", run.spec.model.revision]
    return arguments


def _cpu_arguments(run: Run) -> list[str]:
    vllm = run.spec.rollout.vllm
    eager = [] if vllm.enforce_eager is False else ["--enforce-eager"]
    return ["--dtype", "float32", "--kv-cache-memory-bytes", str(vllm.kv_cache_mib * MIB), *eager]


def _gpu_arguments(run: Run) -> list[str]:
    vllm = run.spec.rollout.vllm
    eager = ["--enforce-eager"] if vllm.enforce_eager else []
    return ["--dtype", "bfloat16", "--gpu-memory-utilization", vllm.gpu_memory_utilization, *eager]


def environment(run: Run, model: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The server's environment. It inherits the control token: a command line could be read by every user."""
    ours = {
        STORAGE_ENV: run.paths.storage,
        "VLLM_SERVER_DEV_MODE": "1",  # registers the weight-transfer routes; the guard closes them
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if Path(model).is_absolute():
        ours |= {"HF_HUB_OFFLINE": "1"}
    if not run.spec.on_gpu:
        # One process less, which saves 600 MB and 13 s; nothing to compile in eager mode.
        ours |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        if run.spec.rollout.vllm.enforce_eager is not False:
            ours |= {"TORCHDYNAMO_DISABLE": "1"}
    user = {variable.name: variable.value for variable in run.spec.rollout.env}
    # The cache size is an argument here; the variable would win over it.
    kept = {name: value for name, value in inherited.items() if name != "VLLM_CPU_KVCACHE_SPACE"}
    return kept | ours | user


def model_of(run: Run) -> str:
    """What vLLM is told to serve: a local directory with config and tokenizer, or an id that vLLM resolves itself.

    Raises `Mistake` when a directory holds no model, and `StorageError` without room for what it needs.
    """
    source = run.spec.model.source
    if source in BUILTIN_MODELS:
        cache = Path(run.paths.cache)
        with storage_errors(cache, "Making the model"):
            return str(skeleton_path(cache, RECIPES[source]))
    return str(checked_directory(source)) if run.spec.model.is_directory else source


def check_numa(library: str = "libnuma.so.1") -> None:
    """vLLM's CPU kernels load it; without it the engine dies late, with a message about something else."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        raise Mistake(
            f"vLLM on CPU needs the system library libnuma ({error}). On Debian and Ubuntu: apt-get install libnuma1"
        ) from error


def serve(run: Run, replica: int, host: str) -> NoReturn:
    """Replace this process by vLLM, listening on `host`. Raises `Mistake` for what a restart cannot mend."""
    if not run.spec.on_gpu:
        check_numa()
    model = model_of(run)
    sys.stdout.write(f"rollout {replica}: serving {run.spec.model.source} on {host}:{run.rollout_port}\n")
    sys.stdout.flush()
    command = [sys.executable, *arguments(run, model, host)]
    os.execve(sys.executable, command, environment(run, model, os.environ))
