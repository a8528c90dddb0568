"""On CPU vLLM's engine is forked from its server. Spawned, it imports torch and vLLM a second time: eight seconds of a
core, a third of what a start takes.

vLLM asks for `spawn` on CPU because of environment variables that its workers read when they start. Those of several
(`rollout.tensorParallel`) still are spawned, by the engine; one alone lives in the engine, and sets its threads there.
"""

from __future__ import annotations

import multiprocessing


def fork_engine() -> None:
    """In the server, before it makes its engine."""
    from vllm.platforms import current_platform
    from vllm.v1.engine import utils

    if current_platform.is_cpu():
        utils.get_mp_context = lambda: multiprocessing.get_context("fork")
