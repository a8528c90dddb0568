"""vLLM as a library in a process of its own: the floor of generation, without server, client or weight sync."""

from __future__ import annotations

import json
import os
import sys

from bench.peer import serve
from rljob_api.base import Manifest


def main(model: str, max_model_len: int, kv_cache_mib: int, max_num_seqs: int) -> None:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=model,
        dtype="float32",
        enforce_eager=True,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        kv_cache_memory_bytes=kv_cache_mib << 20,
        generation_config="vllm",
        logprobs_mode="processed_logprobs",
    )

    def generate(question: Manifest) -> Manifest:
        """Draw `n` completions of each prompt, as the servers are asked to; how many tokens came."""
        prompts = [{"prompt_token_ids": ids} for ids in question["prompts"]]
        sampling = [
            SamplingParams(n=question["n"], seed=seed, max_tokens=question["max_tokens"], logprobs=0)
            for seed in question["seeds"]
        ]
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        llm.reset_prefix_cache()  # the servers drop theirs with every weight sync
        return {"tokens": sum(len(choice.token_ids) for output in outputs for choice in output.outputs)}

    serve(generate)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
