"""Requests to vLLM's completions route, and its answers as samples. Pure."""

from __future__ import annotations

from rljob_api.algorithm import Sampling
from rljob_api.base import Manifest
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.errors import Mistake

MODEL = "policy"
"""`--served-model-name`."""

WHOLE = frozenset({"stop", "length"})
"""Finish reasons of a completion that ended by itself; anything else was cut off from outside."""


class CutOffError(Exception):
    """The answer holds a completion that did not end by itself: it must be drawn again."""


def completion_request(prompt: Prompt, count: int, sampling: Sampling, seed: int) -> Manifest:
    """`count` completions of a prompt in one request: twice as fast as one by one; number i is seeded `seed + i`."""
    return {
        "model": MODEL,
        "prompt": prompt.token_ids,
        "n": count,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "max_tokens": sampling.max_new_tokens,
        "stop": sampling.stop,
        "seed": seed,
        "logprobs": 0,
        "return_token_ids": True,
    }


def samples_of(answer: Manifest, prompt: Prompt, version: int) -> list[Sample]:
    """The completions in an answer, by number. Raises `CutOffError`."""
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    return [_sample(choice, prompt, number, version) for number, choice in enumerate(choices)]


def _sample(choice: Manifest, prompt: Prompt, number: int, version: int) -> Sample:
    tokens, logprobs = choice["token_ids"], (choice["logprobs"] or {}).get("token_logprobs", [])
    if choice["finish_reason"] not in WHOLE or not tokens or len(tokens) != len(logprobs):
        raise CutOffError(
            f"completion {number} of prompt {prompt.index} ended with {choice['finish_reason']}"
        )
    return Sample(
        prompt=prompt,
        number=number,
        token_ids=tokens,
        logprobs=logprobs,
        text=choice["text"],
        finish_reason=choice["finish_reason"],
        weight_version=version,
    )


def check_length(prompt: Prompt, max_new_tokens: int, max_model_len: int) -> None:
    """Raises `Mistake` when a completion of full length would not fit behind the prompt."""
    room = max_model_len - max_new_tokens
    if len(prompt.token_ids) > room:
        raise Mistake(
            f"prompt {prompt.index} has {len(prompt.token_ids)} tokens, but at most {room} fit: "
            f"maxModelLen {max_model_len} - sampling.maxNewTokens {max_new_tokens}. Shorten it, raise "
            f"rollout.vllm.maxModelLen or lower sampling.maxNewTokens. It begins: {prompt.text[:80]!r}"
        )
