"""`python -m rljob_trainer convert`: a Hugging Face model becomes a Megatron checkpoint, once, before training.

`step` is the role that a pod runs; `cache` finds, verifies and publishes; `world` forks the ranks and watches them;
`write` is what they do, streaming; `hf_source` reads and `identity` names what is converted. Training, in processes of
its own, only loads the result.
"""
