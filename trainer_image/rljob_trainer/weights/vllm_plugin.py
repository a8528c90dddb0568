"""The entry point that every vLLM process loads: our weight-transfer engine, and last words."""

from __future__ import annotations

from rljob_trainer.memory import keep_freed_memory
from rljob_trainer.weights.vllm_words import keep_last_words

ENGINE = "rljob"
"""What `--weight-transfer-config` calls it."""


def register() -> None:
    """Called by vLLM, possibly more than once in a process."""
    keep_freed_memory()
    keep_last_words()
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if ENGINE not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(ENGINE, "rljob_trainer.weights.vllm_engine", "Receiver")
