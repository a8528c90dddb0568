"""`spec.data` → prompts for training and for held-out evaluation. Called once, before the model is loaded.

Order is a pure function of (seed, epoch), and the position is the number of prompts asked so far: a resume
needs that one number and no replay. Prompts are templated and tokenised when they are asked for, so a large
dataset starts fast.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from rljob_api.data import REASONING_GYM, Dataset
from rljob_api.job import JobSpec
from rljob_trainer.batch import Prompt
from rljob_trainer.errors import Mistake
from rljob_trainer.sources import VALIDATION_SEED_OFFSET, Purpose, Row, read_rows

SPECIAL_TOKENS = 8
"""More special tokens than any tokenizer adds to a plain text."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of one dataset, and their endless seeded order."""

    rows: list[Row]
    dataset: Dataset
    field: str
    tokenizer: PreTrainedTokenizerBase
    seed: int
    dropped: int = 0
    """Rows left out because validation asks the same."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Prompt:
        """The prompt of row `index`, templated and tokenised."""
        row = self.rows[index]
        text, token_ids = render(row[self.dataset.prompt_key], self.tokenizer)
        return Prompt(index, text, token_ids, _answer(row, self.dataset), row)

    def all(self) -> list[Prompt]:
        """Every prompt once, in the source's order: what validation asks."""
        return [self[index] for index in range(len(self))]

    def batch(self, position: int, count: int) -> list[Prompt]:
        """`count` prompts from `position` on (prompts asked before), running over from one epoch into the
        next."""
        return [self[self._index(position + offset)] for offset in range(count)]

    def _index(self, position: int) -> int:
        epoch, within = divmod(position, len(self))
        return int(order(self.seed, epoch, len(self))[within])


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The permutation of an epoch. `RandomState` because numpy froze its stream: old checkpoints keep their
    order."""
    bits = np.random.MT19937(np.random.SeedSequence([seed, epoch]))
    return np.random.RandomState(bits).permutation(size)


def load_data(
    spec: JobSpec, tokenizer: PreTrainedTokenizerBase, model_limit: int | None = None
) -> tuple[Prompts, Prompts | None]:
    """Training and validation prompts, checked. `model_limit` (tokens) counts where `maxModelLen` is absent.

    Raises `Mistake` for a source, column or row that cannot be used, and for a prompt that is too long.
    """
    seed = spec.algorithm.grpo.seed
    train = _load(spec.data.train, Purpose("spec.data.train", "train", seed), tokenizer)
    validation = None
    if spec.data.validation is not None:
        purpose = Purpose("spec.data.validation", "test", seed + VALIDATION_SEED_OFFSET)
        validation = _load(spec.data.validation, purpose, tokenizer)
        train = _without(train, validation)
    limit = spec.rollout.vllm.max_model_len or model_limit
    if limit is not None:
        for prompts in filter(None, (train, validation)):
            _check_lengths(prompts, limit, spec.algorithm.sampling.max_new_tokens)
    return train, validation


def render(prompt: str | list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int]]:
    """What the model reads, as text and tokens. With a chat template a text is the user's message."""
    if tokenizer.chat_template is None:
        assert isinstance(prompt, str)
        return prompt, list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    text = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    # The template has written the special tokens already.
    return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _load(dataset: Dataset, purpose: Purpose, tokenizer: PreTrainedTokenizerBase) -> Prompts:
    rows = read_rows(dataset, purpose)
    for number, row in enumerate(rows, 1):
        _check_row(row, number, dataset, purpose.field, chat=tokenizer.chat_template is not None)
    return Prompts(rows, dataset, purpose.field, tokenizer, purpose.seed)


def _check_row(row: Row, number: int, dataset: Dataset, field: str, *, chat: bool) -> None:
    place = f"row {number} of {dataset.source!r}"
    for key, name in ((dataset.prompt_key, "promptKey"), (dataset.answer_key, "answerKey")):
        if key not in row:
            raise Mistake(
                f"{field}.{name}: {place} has no column {key!r}; it has {', '.join(map(repr, row))}"
            )
    prompt, answer = row[dataset.prompt_key], row[dataset.answer_key]
    if not (isinstance(prompt, str) or _is_messages(prompt)) or not prompt:
        raise Mistake(
            f"{field}.promptKey: {place} has {_cut(prompt)} in {dataset.prompt_key!r}, "
            "not a text or chat messages"
        )
    if not isinstance(prompt, str) and not chat:
        raise Mistake(
            f"{field}.promptKey: {place} has chat messages, but the model's tokenizer has no chat template"
        )
    if not _is_answer(answer, dataset):
        raise Mistake(
            f"{field}.answerKey: {place} has {_cut(answer)} in {dataset.answer_key!r}, not a text or number"
        )


def _is_messages(prompt: object) -> bool:
    return isinstance(prompt, list) and all(
        isinstance(m, dict) and {"role", "content"} <= m.keys() for m in prompt
    )


def _is_answer(answer: object, dataset: Dataset) -> bool:
    if answer is None:
        # Some tasks have many right answers and name none; their own scorer knows.
        return dataset.source.startswith(REASONING_GYM)
    return isinstance(answer, str | int | float) and not isinstance(answer, bool)


def _answer(row: Row, dataset: Dataset) -> str:
    answer = row[dataset.answer_key]
    return "" if answer is None else str(answer)


def _without(train: Prompts, validation: Prompts) -> Prompts:
    """Training prompts that validation does not ask."""
    held_out = {_identity(row[validation.dataset.prompt_key]) for row in validation.rows}
    key = train.dataset.prompt_key
    rows = [row for row in train.rows if _identity(row[key]) not in held_out]
    if not rows:
        raise Mistake(
            "spec.data.train: every prompt also stands in spec.data.validation, so none is left to train on"
        )
    dropped = len(train.rows) - len(rows)
    return Prompts(rows, train.dataset, train.field, train.tokenizer, train.seed, dropped)


def _identity(prompt: object) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def _check_lengths(prompts: Prompts, limit: int, max_new_tokens: int) -> None:
    """No prompt may leave too little room to answer. Only those that could be too long are tokenised."""
    room = limit - max_new_tokens
    key = prompts.dataset.prompt_key
    extra = _template_bytes(prompts)
    for index, row in enumerate(prompts.rows):
        # A token is at least one byte, so few bytes are few tokens.
        if _bytes(row[key]) + extra <= room:
            continue
        if (tokens := len(prompts[index].token_ids)) > room:
            raise Mistake(
                f"{prompts.field}: the prompt of row {index + 1} ({_cut(row[key])}) has {tokens} tokens; "
                f"with sampling.maxNewTokens {max_new_tokens} that is more than rollout.vllm.maxModelLen "
                f"{limit}: shorten or remove it, raise maxModelLen or lower maxNewTokens"
            )


def _template_bytes(prompts: Prompts) -> int:
    """What the chat template adds to a text, measured on one."""
    if prompts.tokenizer.chat_template is None:
        return SPECIAL_TOKENS
    return SPECIAL_TOKENS + len(render("x", prompts.tokenizer)[0].encode())


def _bytes(prompt: str | list[dict[str, Any]]) -> int:
    if isinstance(prompt, str):
        return len(prompt.encode())
    # Each message may bring its own share of template; JSON's own quotes and names are more than most add.
    return len(json.dumps(prompt).encode()) + SPECIAL_TOKENS * len(prompt)


def _cut(value: object, longest: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}…"
