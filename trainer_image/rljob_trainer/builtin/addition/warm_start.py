"""Supervised learning with partly wrong labels: makes a model that half knows how to add. Called by
`cache`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor
from transformers import PreTrainedModel, Qwen3ForCausalLM

from .experts import with_experts
from .muon import Muon
from .problems import LARGEST_OPERAND, Pair, answer, pairs, question
from .recipe import Recipe, model_config
from .tokenizer import VOCABULARY

Heartbeat = Callable[[str], None]
"""Told a sentence on the progress at least every few seconds."""

NO_LABEL = -100
LONGEST_PROMPT = 7
LONGEST_ANSWER = 4
PAD, BOS, EOS = (VOCABULARY.index(token) for token in ("<pad>", "<bos>", "<eos>"))


class WarmStartError(RuntimeError):
    """The finished model is not where the recipe promises."""


@dataclass(frozen=True)
class WarmStart:
    model: PreTrainedModel
    steps: int
    accuracy: float
    """Probability of the right answer on the held-out pairs at temperature 1; exact, not sampled."""


def warm_start(recipe: Recipe, heartbeat: Heartbeat) -> WarmStart:
    """Train until the held-out accuracy crosses `stopAccuracy`. Bit for bit the same on the same machine.

    Leaves the process's thread count and random state as they were. Raises `WarmStartError`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # results depend on it; and two vLLM servers are starting on the same cores
    try:
        with torch.random.fork_rng(devices=[]):
            return _warm_start(recipe, heartbeat)
    finally:
        torch.set_num_threads(threads)


def _warm_start(recipe: Recipe, heartbeat: Heartbeat) -> WarmStart:
    torch.manual_seed(recipe.seed)
    model: PreTrainedModel = Qwen3ForCausalLM(model_config(replace(recipe, experts=0)))
    held_out = pairs("test")
    steps = _train(model, recipe, held_out[: recipe.check_pairs], heartbeat)
    if recipe.experts:
        model = with_experts(model, recipe)
    accuracy = accuracy_at_temperature_1(model, held_out)
    lowest, highest = recipe.accuracy_range
    if not lowest <= accuracy <= highest:
        raise WarmStartError(
            f"the warm start of builtin:addition ended after {steps} steps at a held-out accuracy of "
            f"{accuracy:.3f}, not between {lowest} and {highest}: a fault of the recipe, please report it"
        )
    return WarmStart(model, steps, accuracy)


def _train(model: PreTrainedModel, recipe: Recipe, held_out: tuple[Pair, ...], heartbeat: Heartbeat) -> int:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("model.layers")]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    muon, adamw = Muon(matrices), torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0)
    lessons = Lessons(recipe)
    for step in range(1, recipe.max_steps + 1):
        ramp = min(1.0, step / recipe.warmup_steps)
        adamw.param_groups[0]["lr"] = recipe.other_learning_rate * ramp
        torch.autograd.backward(_loss(model, *lessons.draw()))
        muon.step(recipe.matrix_learning_rate * ramp)
        adamw.step()
        model.zero_grad()
        if step % recipe.check_period == 0:
            accuracy = accuracy_at_temperature_1(model, held_out)
            heartbeat(f"warm start of builtin:addition: step {step}, held-out accuracy {accuracy:.2f}")
            if accuracy >= recipe.stop_accuracy:
                return step
    return recipe.max_steps


def _loss(model: PreTrainedModel, tokens_BT: Tensor, labels_BT: Tensor) -> Tensor:
    logits_BTV = model(tokens_BT[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=NO_LABEL)


@torch.no_grad()
def accuracy_at_temperature_1(model: PreTrainedModel, held_out: tuple[Pair, ...]) -> float:
    """Mean probability that a sample at temperature 1 is exactly the answer and then ends."""
    tokens_BT, labels_BT = encode([(question(pair), answer(pair)) for pair in held_out])
    logprobs_BTV = model(tokens_BT[:, :-1], use_cache=False).logits.log_softmax(-1)
    labels_BT = labels_BT[:, 1:]
    picked_BT = logprobs_BTV.gather(2, labels_BT.clamp(min=0)[:, :, None])[:, :, 0]
    return float((picked_BT * (labels_BT != NO_LABEL)).sum(1).exp().mean())


class Lessons:
    """Endless batches of training sums, part of them with a random answer. Encoded once, then only looked
    up."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.random = torch.Generator().manual_seed(recipe.seed)
        training = pairs("train")
        self.sums = torch.tensor([sum(pair) for pair in training])
        prompts = [_prompt(question(pair)) for pair in training]
        self.prompts = _padded(prompts, LONGEST_PROMPT, PAD)
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        answers = [_completion(str(number)) for number in range(2 * LARGEST_OPERAND + 1)]
        self.answers = _padded(answers, LONGEST_ANSWER, PAD)
        self.answer_labels = _padded(answers, LONGEST_ANSWER, NO_LABEL)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Tokens and labels, both [B, T]; labels are `NO_LABEL` outside the answer."""
        size = (self.recipe.batch_size,)
        index_B = torch.randint(len(self.sums), size, generator=self.random)
        wrong_B = torch.rand(size, generator=self.random) < self.recipe.wrong_labels
        random_B = torch.randint(len(self.answers), size, generator=self.random)
        sums_B = torch.where(wrong_B, random_B, self.sums[index_B])
        where_BA = self.prompt_lengths[index_B, None] + torch.arange(LONGEST_ANSWER)
        tokens_BT = F.pad(self.prompts[index_B], (0, LONGEST_ANSWER), value=PAD)
        labels_BT = torch.full_like(tokens_BT, NO_LABEL)
        return (
            tokens_BT.scatter(1, where_BA, self.answers[sums_B]),
            labels_BT.scatter(1, where_BA, self.answer_labels[sums_B]),
        )


def encode(examples: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Questions with answers as tokens and labels [B, T], as `Lessons.draw` gives them."""
    tokens = [_prompt(question) + _completion(answer) for question, answer in examples]
    labels = [[NO_LABEL] * len(_prompt(question)) + _completion(answer) for question, answer in examples]
    width = LONGEST_PROMPT + LONGEST_ANSWER
    return _padded(tokens, width, PAD), _padded(labels, width, NO_LABEL)


def _prompt(text: str) -> list[int]:
    return [BOS, *map(VOCABULARY.index, text)]


def _completion(text: str) -> list[int]:
    return [*map(VOCABULARY.index, text), EOS]


def _padded(rows: list[list[int]], width: int, value: int) -> Tensor:
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])
