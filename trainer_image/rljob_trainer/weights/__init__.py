"""How new weights reach vLLM: one stream of buckets, carried by gloo, NCCL or the shared volume.

`sync.py` is what the loop calls. `vllm_plugin.py` and `vllm_engine.py` run inside vLLM; nothing else here imports it.
"""
