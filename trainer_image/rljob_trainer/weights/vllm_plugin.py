"""The entry point that every vLLM process loads: our weight-transfer engine, last words, no false alarms, and on CPU a
quicker start."""

from __future__ import annotations

from rljob_trainer.memory import keep_freed_memory
from rljob_trainer.weights.vllm_start import fork_engine
from rljob_trainer.weights.vllm_words import keep_last_words, leave_out_false_alarms

ENGINE = "rljob"
"""What `--weight-transfer-config` calls it."""


def register() -> None:
    """Called by vLLM, possibly more than once in a process."""
    keep_freed_memory()
    keep_last_words()
    leave_out_false_alarms()
    fork_engine()
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if ENGINE not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(ENGINE, "rljob_trainer.weights.vllm_engine", "Receiver")
