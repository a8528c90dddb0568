"""`spec.algorithm`: how the policy learns. Terms and defaults follow NeMo RL's GRPO where it has them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from .base import Decimal, Fraction, ShortText, Spec


class Baseline(StrEnum):
    """What a completion's reward is compared with."""

    LEAVE_ONE_OUT = "leaveOneOut"
    """The mean reward of the *other* completions of the same prompt (unbiased; NeMo RL's default)."""
    GROUP_MEAN = "groupMean"
    """The mean reward of all completions of the same prompt (DeepSeekMath's GRPO)."""


class Grpo(Spec):
    """Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300), as NeMo RL defines it."""

    prompts_per_step: int = Field(32, ge=1, le=65536)
    """Prompts asked in a step."""
    generations_per_prompt: int = Field(16, ge=2, le=1024)
    """Completions of each prompt; their rewards are compared with one another."""
    max_steps: int = Field(1000, ge=1, le=10_000_000)
    """Optimizer updates until the job is complete."""
    learning_rate: float = Field(1e-6, ge=0, le=1)
    """Peak learning rate. The only one: `scheduler` blocks shape it over the steps."""
    seed: int = Field(42, ge=0, le=2**31 - 1)
    """Seeds data order, model RNG and every sample: the same seed gives the same curve."""
    baseline: Baseline = Baseline.LEAVE_ONE_OUT
    """What a reward is compared with inside its group."""
    normalize_advantages: bool = True
    """Divide advantages by the group's standard deviation."""
    clip_min: float = Field(0.2, ge=0, le=1)
    """The probability ratio is clipped below at 1 - clipMin."""
    clip_max: float = Field(0.2, ge=0, le=100)
    """The probability ratio is clipped above at 1 + clipMax."""
    kl_penalty: float = Field(0, ge=0, le=100)
    """Weight of the k3 KL divergence from the starting model; above 0 a frozen reference model is kept in memory."""
    truncated_importance_sampling: float = Field(0, ge=0, le=1000)
    """Cap of the weight p_trainer/p_rollout that corrects for the numerical mismatch of the two; 0 turns it off."""
    validation_period: int = Field(10, ge=0, le=1_000_000)
    """Held-out evaluation every so many steps, before the first and after the last; 0 turns it off."""


class Sampling(Spec):
    """The distribution that completions are drawn from. Log-probabilities are those of exactly this distribution."""

    temperature: Decimal = "1.0"
    """Divides the logits, in vLLM and in the trainer alike; above 0."""
    top_p: Fraction = "1.0"
    """Nucleus: the smallest set of tokens with this probability mass; above 0, 1.0 means all tokens."""
    max_new_tokens: int = Field(1024, ge=1, le=1_048_576)
    """Longest completion, in tokens."""
    stop: list[ShortText] = Field([], max_length=16)
    """Texts that end a completion."""


class Algorithm(Spec):
    """The learning algorithm and its sampling."""

    type: Literal["grpo"] = "grpo"
    """The algorithm."""
    grpo: Grpo = Grpo()
    """Parameters of GRPO."""
    sampling: Sampling = Sampling()
    """How completions are drawn."""
