"""The `megatron` backend: megatron-core's GPT, pipeline schedule, optimizer and distributed checkpoints.

`backend` fulfils the protocol; the other files each hold one question that it asks: how a Hugging Face model
maps (`architecture`, `mapping`), how it is built (`fit`, `parallel`, `model`), run (`forward`), updated
(`optimizer`), saved (`checkpoint`, `rng`) and given away (`export`). `cpu` stands in for CUDA where there is
none.
"""

from __future__ import annotations

import warnings

# Imported here once, to leave out its warnings about Transformer Engine and Apex, which are for GPUs.
with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore", message="(Transformer Engine and )?Apex (is|are) not installed", category=UserWarning
    )
    import megatron.core.dist_checkpointing.strategies.fully_parallel
    import megatron.core.distributed
    import megatron.core.models.gpt.gpt_layer_specs
    import megatron.core.models.gpt.gpt_model
    import megatron.core.optimizer
    import megatron.core.pipeline_parallel  # noqa: F401 - imported to be imported
