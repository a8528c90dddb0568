"""Where a sample's randomness comes from: the run's seed, the step and the prompt, and nothing else.

So a sample does not depend on the replica that drew it, on what else was in the batch, or on a restart.
"""

from __future__ import annotations

import hashlib


def prompt_seed(run_seed: int, occasion: str, prompt_index: int) -> int:
    """Seed of a prompt's first completion; vLLM seeds completion i of the same request with this plus i.

    `occasion` tells apart draws that should differ: `train-17`, `validate-20`. From 0 to 2**62 - 1, so that adding i
    stays inside the 63 bits that vLLM takes.
    """
    text = f"{run_seed}/{occasion}/{prompt_index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 2
