"""`spec.reward`: how a completion is scored."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import LocalReference, Spec


class BuiltinReward(StrEnum):
    """Scorers that come with the trainer."""

    EXACT_MATCH = "exactMatch"
    """1 if the completion, stripped of white space, equals the answer, else 0."""
    MATH = "math"
    """1 if the completion and the answer are the same mathematical value (library math-verify), else 0."""
    TASK = "task"
    """The scorer of the reasoning-gym task that the prompts come from."""


class PythonReward(Spec):
    """A scorer of your own: `function(prompt: str, completion: str, answer: str, item: dict) -> float`."""

    module: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$", max_length=256)
    """Importable module, for example `my_rewards`; a file `my_rewards.py` beside the YAML works with `rljob run`."""
    function: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)
    """Name of the function in that module."""
    config_map_ref: LocalReference | None = None
    """ConfigMap of the job's namespace whose keys are files such as `my_rewards.py`; they are put on the module path.
    Absent: the image has the module. Without effect on `rljob run`."""


class Reward(Spec):
    """Exactly one of `builtin` and `python`."""

    builtin: BuiltinReward | None = None
    """A scorer that comes with the trainer."""
    python: PythonReward | None = None
    """A scorer of your own. One that raises or returns NaN fails the job with the sample shown."""
