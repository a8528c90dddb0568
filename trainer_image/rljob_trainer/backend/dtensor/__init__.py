"""The `dtensor` backend: a transformers model under FSDP2 and DTensor tensor parallelism.

`backend` fulfils the protocol; the other files each answer one question that it asks: how the model is loaded and
spread (`model`, `tensor_parallel`), what it computes (`policy`), how it is updated (`optimizer`), saved (`checkpoint`).
"""

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Hugging Face model types that it trains."""
