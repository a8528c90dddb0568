"""How completions are scored: `spec.reward` → one function, and that function over the samples of a step.

`load_reward` runs before anything heavy starts, so that a reward that cannot work is told early. A reward
that raises or returns something other than a finite number fails the job with the sample shown: a silent 0
would teach the wrong thing for days.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import math
import numbers
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, assert_never

from rljob_api.job import JobSpec
from rljob_api.reward import BuiltinReward, PythonReward
from rljob_trainer.batch import Sample
from rljob_trainer.errors import Mistake

Item = dict[str, Any]
Reward = Callable[[str, str, str, Item], float]
"""reward(prompt, completion, answer, item) → a finite number; higher is better."""

MATH_TIMEOUT_SECONDS = 5
"""math-verify's own limit for one expression."""


def load_reward(spec: JobSpec) -> Reward:
    """The function that `spec.reward` names. Raises `Mistake` if it cannot be had."""
    match spec.reward.builtin, spec.reward.python:
        case None, PythonReward() as python:
            return _python(python)
        case BuiltinReward() as builtin, None:
            return _builtin(builtin)
        case _:
            raise AssertionError("the API rules let exactly one of builtin and python through")


def score(
    samples: Sequence[Sample],
    reward: Reward,
    tell: Callable[[str], None] = lambda _: None,
    poll: Callable[[], None] = lambda: None,
) -> list[float]:
    """One finite reward per sample; `tell` hears which is being scored, and `poll` may raise before each.

    Raises `Mistake` that shows the sample.
    """
    rewards = []
    for number, sample in enumerate(samples, 1):
        poll()
        tell(f"sample {number} of {len(samples)}, of prompt {sample.prompt.index}")
        rewards.append(_score(sample, reward))
    return rewards


def _score(sample: Sample, reward: Reward) -> float:
    prompt = sample.prompt
    try:
        value: object = reward(prompt.text, sample.text, prompt.answer, prompt.item)
    except Mistake:
        raise
    except Exception as error:
        # User code may raise anything; whatever it is, the answer is to show the sample that did it.
        # The lines that it went through are the user's; the one of this file would only lead away from them.
        theirs = error.__traceback__.tb_next if error.__traceback__ else None
        logging.error("the reward raised", exc_info=(type(error), error, theirs))
        last = f"{type(error).__name__}: {error}".strip()
        raise Mistake(f"spec.reward: the reward raised {last}\n{_shown(sample)}") from error
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise Mistake(
            f"spec.reward: the reward returned {value!r}, which is not a finite number\n{_shown(sample)}"
        )
    return float(value)


def _shown(sample: Sample) -> str:
    parts = {"prompt": sample.prompt.text, "completion": sample.text, "answer": sample.prompt.answer}
    return "\n".join(f"  {name}: {_cut(text)!r}" for name, text in parts.items())


def _cut(text: str, longest: int = 500) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"


def _builtin(builtin: BuiltinReward) -> Reward:
    match builtin:
        case BuiltinReward.EXACT_MATCH:
            return exact_match
        case BuiltinReward.MATH:
            import math_verify  # noqa: F401 - a missing library is told now, not at the first reward

            return math_equal
        case BuiltinReward.TASK:
            return _task()
        case _:
            assert_never(builtin)


def exact_match(prompt: str, completion: str, answer: str, item: Item) -> float:
    """1 if both are the same text, white space around them aside."""
    return float(completion.strip() == answer.strip())


def math_equal(prompt: str, completion: str, answer: str, item: Item) -> float:
    """1 if both are the same mathematical value (library math-verify).

    0 for a completion without any value, and for one that takes longer than `MATH_TIMEOUT_SECONDS` to read or to
    compare: which expressions a policy draws is no fault of the job. One that the library cannot compare at all scores
    0, too, and is shown in the log. Raises `Mistake` if the answer cannot be read, or not be compared even with itself.
    """
    from math_verify import parse

    limit = _math_limit()
    gold = parse(answer, parsing_timeout=limit)
    if not gold:
        raise Mistake(
            f"spec.reward: builtin math cannot read the answer {_cut(answer)!r} of prompt {_cut(prompt)!r}"
        )
    try:
        return float(_same(gold, parse(completion, parsing_timeout=limit)))
    except Exception as error:
        # The library raises whatever the expressions make sympy raise.
        _refuse_incomparable(gold, prompt, answer)
        logging.warning(
            "builtin math cannot compare the completion %r with the answer %r: %s: %s. It scores 0.",
            _cut(completion),
            _cut(answer),
            type(error).__name__,
            error,
        )
        return 0.0


def _refuse_incomparable(gold: list[Any], prompt: str, answer: str) -> None:
    try:
        _same(gold, gold)
    except Exception as error:
        raise Mistake(
            f"spec.reward: builtin math cannot compare the answer {_cut(answer)!r} of prompt {_cut(prompt)!r}:"
            f" {type(error).__name__}: {error}"
        ) from error


def _same(gold: list[Any], found: list[Any]) -> bool:
    """Raises what the library raises, but for its time-out: it is a `BaseException`, and means no here."""
    from math_verify import verify
    from math_verify.errors import TimeoutException

    try:
        return bool(verify(gold, found, timeout_seconds=_math_limit(), raise_on_error=True))
    except TimeoutException:
        return False


def _math_limit() -> int | None:
    """The library limits time by SIGALRM, which only the main thread may set; elsewhere it would raise."""
    return MATH_TIMEOUT_SECONDS if threading.current_thread() is threading.main_thread() else None


def _task() -> Reward:
    import reasoning_gym

    scorer = cache(reasoning_gym.get_score_answer_fn)

    def task(prompt: str, completion: str, answer: str, item: Item) -> float:
        # Every item says which task made it: training and validation may come from different ones.
        return float(scorer(item["metadata"]["source_dataset"])(completion.strip(), item))

    return task


def module_file(python: PythonReward) -> Path | None:
    """The file of the user's module; None if it cannot be had, which `load_reward` tells in a sentence."""
    _search_here()
    try:
        found = importlib.util.find_spec(python.module)
    except Exception:  # the packages around it are imported for this, and may raise anything
        return None
    return Path(found.origin) if found and found.origin else None


def _search_here() -> str:
    """With `rljob run` the working directory is the YAML's, where `my_rewards.py` stands."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return here


def _python(python: PythonReward) -> Reward:
    here = _search_here()
    try:
        module = importlib.import_module(python.module)
    except Exception as error:  # user code, too
        whence = _whence(python, error)
        if not whence:
            logging.error("importing the reward failed", exc_info=error)
        raise Mistake(
            f"spec.reward.python.module: importing {python.module!r} from {here} or the Python path failed: "
            f"{type(error).__name__}: {error}{whence}"
        ) from error
    try:
        function = getattr(module, python.function)
    except AttributeError as error:
        raise Mistake(f"spec.reward.python.function: {error}") from error
    _check_signature(function, python)
    return function  # type: ignore[no-any-return] # the signature was checked, the return value is at each call


def _whence(python: PythonReward, error: Exception) -> str:
    """Where the module is to come from, if it is not there at all; empty for trouble inside it."""
    if not isinstance(error, ModuleNotFoundError) or error.name != python.module.partition(".")[0]:
        return ""
    return (
        ". With `rljob run` its file stands beside the job's; for a cluster put it into a ConfigMap, and name that in "
        "spec.reward.python.configMapRef."
    )


def _check_signature(function: object, python: PythonReward) -> None:
    name = f"{python.module}.{python.function}"
    if not callable(function):
        raise Mistake(f"spec.reward.python: {name} is {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind("", "", "", {})
    except TypeError as error:
        raise Mistake(
            f"spec.reward.python: {name} must take (prompt, completion, answer, item), but: {error}"
        ) from error
