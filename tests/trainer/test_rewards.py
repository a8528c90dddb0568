"""Rewards: what each gives, that none fails silently, and that what cannot work is told at the start."""

from __future__ import annotations

import importlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reasoning_gym
from math_verify.errors import TimeoutException

from rljob_api.job import JobSpec
from rljob_api.reward import PythonReward
from rljob_trainer import rewards
from rljob_trainer.backend.protocol import Interrupted
from rljob_trainer.batch import Prompt, Sample
from rljob_trainer.errors import Mistake
from rljob_trainer.evaluate import evaluate
from rljob_trainer.rewards import Reward, load_reward, module_file, score


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to compare; what is tried here is what is found."""
    monkeypatch.setattr(rewards, "MATH_TIMEOUT_SECONDS", 120)


def spec(reward: dict[str, Any], source: str = "builtin:addition") -> JobSpec:
    return JobSpec.parse({"model": {"source": "m"}, "data": {"train": {"source": source}}, "reward": reward})


def sample(completion: str = "the completion", answer: str = "the answer") -> Sample:
    prompt = Prompt(index=0, text="the prompt", token_ids=[1], answer=answer, item={"extra": 5})
    return Sample(prompt, 0, [2], [0.0], completion, "stop", 0)


def python_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str = "mine") -> Reward:
    """A user's reward from a file in the working directory."""
    module = f"reward_{abs(hash((str(tmp_path), body)))}"
    (tmp_path / f"{module}.py").write_text(f"def mine(prompt, completion, answer, item):\n    {body}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("unused")  # puts sys.path back afterwards
    return load_reward(spec({"python": {"module": module, "function": name}}))


def test_exact_match_forgives_white_space_alone() -> None:
    reward = load_reward(spec({"builtin": "exactMatch"}))
    assert score([sample(" 46\n", "46"), sample("46.", "46"), sample("", "46")], reward) == [1, 0, 0]


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("so it is \\boxed{1/2}", "0.5", 1),
        ("$\\frac{2}{4}$", "\\frac{1}{2}", 1),
        ("72", "She sold 48/2 = <<48/2=24>>24 more.\n#### 72", 1),
        ("24", "She sold 48/2 = <<48/2=24>>24 more.\n#### 72", 0),
        ("I do not know", "72", 0),
        ("", "72", 0),
    ],
)
def test_math_compares_values(completion: str, answer: str, expected: float) -> None:
    assert score([sample(completion, answer)], load_reward(spec({"builtin": "math"}))) == [expected]


NO_NUMBER = "$\\end{pmatrix} \\boxed 0 \\infty ! and 0$"
"""What a policy may draw; compared with a set it makes sympy raise."""


def test_what_math_cannot_compare_scores_0_and_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert score([sample(NO_NUMBER, "$\\{1,2\\}$")], load_reward(spec({"builtin": "math"}))) == [0]
    assert "cannot compare the completion" in caplog.text
    assert "TypeError: Invalid NaN comparison" in caplog.text


def test_an_answer_that_math_cannot_compare_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **options: object) -> bool:
        raise ValueError("no way to compare")

    monkeypatch.setattr("math_verify.verify", fail)
    with pytest.raises(Mistake, match=r"cannot compare the answer '72' .*no way to compare"):
        score([sample("72", "72")], load_reward(spec({"builtin": "math"})))


def test_math_that_takes_too_long_scores_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **options: object) -> bool:
        raise TimeoutException("Operation timed out!")

    monkeypatch.setattr("math_verify.verify", endless)
    assert score([sample("72", "72")], load_reward(spec({"builtin": "math"}))) == [0]


def test_math_works_off_the_main_thread() -> None:
    reward = load_reward(spec({"builtin": "math"}))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(score, [sample("2/4", "1/2")], reward).result() == [1]


def test_math_refuses_an_answer_that_it_cannot_read() -> None:
    with pytest.raises(Mistake, match="cannot read the answer 'no idea'"):
        score([sample("1", "no idea")], load_reward(spec({"builtin": "math"})))


def test_task_is_the_scorer_of_the_task() -> None:
    row = reasoning_gym.create_dataset("chain_sum", size=1, seed=3)[0]
    prompt = Prompt(0, row["question"], [1], row["answer"], row)
    samples = [
        Sample(prompt, n, [2], [0.0], text, "stop", 0) for n, text in enumerate([row["answer"] + "\n", "x"])
    ]
    right, wrong = score(samples, load_reward(spec({"builtin": "task"}, "reasoning-gym:chain_sum")))
    assert right == 1 > wrong


def test_a_reward_of_ones_own_gets_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "return len(prompt + completion + answer) + item['extra']"
    reward = python_reward(tmp_path, monkeypatch, body)
    assert score([sample()], reward) == [len("the promptthe completionthe answer") + 5]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise RuntimeError('out of ideas')", "raised RuntimeError: out of ideas"),
        ("return float('nan')", "returned nan, which is not a finite number"),
        ("return float('inf')", "returned inf"),
        ("return None", "returned None"),
        ("return 'good'", "returned 'good'"),
        ("return 1 + 2j", "not a finite number"),
    ],
)
def test_a_reward_that_fails_shows_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, told: str
) -> None:
    reward = python_reward(tmp_path, monkeypatch, body)
    with pytest.raises(Mistake) as mistake:
        score([sample()], reward)
    message = str(mistake.value)
    assert told in message
    assert "prompt: 'the prompt'" in message
    assert "completion: 'the completion'" in message
    assert "answer: 'the answer'" in message


@pytest.mark.parametrize("value", [True, 1, np.float32(1), np.int64(1)])
def test_any_real_number_will_do(value: Any) -> None:
    assert score([sample()], lambda *_: value) == [1.0]


def test_who_is_told_to_go_scores_no_further_sample() -> None:
    told, scored = iter([None, None, Interrupted()]), []

    def poll() -> None:
        if stop := next(told):
            raise stop

    def reward(*texts: Any) -> float:
        scored.append(texts)
        return 1.0

    with pytest.raises(Interrupted):
        score([sample()] * 5, reward, poll=poll)
    assert len(scored) == 2


def test_a_very_long_completion_is_cut_in_the_message() -> None:
    def fail(*_: Any) -> float:
        raise KeyError("x")

    with pytest.raises(Mistake) as mistake:
        score([sample("a" * 100_000)], fail)
    assert len(str(mistake.value)) < 2000


def test_what_cannot_be_imported_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Mistake, match=r"importing 'no_such_module' .*NotFoundError.*configMapRef\.$"):
        load_reward(spec({"python": {"module": "no_such_module", "function": "f"}}))
    with pytest.raises(Mistake, match="has no attribute 'yours'"):
        python_reward(tmp_path, monkeypatch, "return 1", name="yours")
    (tmp_path / "broken_reward.py").write_text("def f(:\n")
    importlib.invalidate_caches()  # the folder's time may be that of its last change, too
    with pytest.raises(Mistake, match=r"importing 'broken_reward' .*SyntaxError"):
        load_reward(spec({"python": {"module": "broken_reward", "function": "f"}}))
    (tmp_path / "dated_reward.py").write_text("import math\nlimit = math.float\n")
    importlib.invalidate_caches()
    with pytest.raises(Mistake, match=r"spec\.reward\.python\.module: .*AttributeError: .*'float'$"):
        load_reward(spec({"python": {"module": "dated_reward", "function": "f"}}))
    (tmp_path / "needy_reward.py").write_text("import no_such_library\n")
    importlib.invalidate_caches()
    with pytest.raises(Mistake, match=r"ModuleNotFoundError: No module named 'no_such_library'$"):
        load_reward(spec({"python": {"module": "needy_reward", "function": "f"}}))
    with pytest.raises(Mistake, match=r"must take \(prompt, completion, answer, item\)"):
        load_reward(spec({"python": {"module": "shlex", "function": "quote"}}))
    with pytest.raises(Mistake, match=r"math\.pi is float, not a function"):
        load_reward(spec({"python": {"module": "math", "function": "pi"}}))


def test_the_log_has_the_line_of_the_reward_that_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reward = python_reward(tmp_path, monkeypatch, "return item['no such key']")
    with pytest.raises(Mistake):
        score([sample()], reward)
    assert f'{inspect.getfile(reward)}", line 2, in mine' in caplog.text
    assert "KeyError: 'no such key'" in caplog.text


def test_the_log_has_the_line_that_an_import_came_to_and_none_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Mistake):
        load_reward(spec({"python": {"module": "no_such_module", "function": "f"}}))
    with pytest.raises(Mistake):
        python_reward(tmp_path, monkeypatch, "return 1", name="yours")
    with pytest.raises(Mistake, match="returned None"):
        score([sample()], python_reward(tmp_path, monkeypatch, "return None"))
    assert not caplog.text
    (tmp_path / "hasty_reward.py").write_text("\nraise RuntimeError('not today')\n")
    importlib.invalidate_caches()
    with pytest.raises(Mistake):
        load_reward(spec({"python": {"module": "hasty_reward", "function": "f"}}))
    assert f'{tmp_path / "hasty_reward.py"}", line 2' in caplog.text


def test_a_package_that_cannot_be_imported_has_no_file_and_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume looks for the file before it loads the reward."""
    (tmp_path / "hasty").mkdir()
    (tmp_path / "hasty" / "__init__.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("unused")
    assert module_file(PythonReward(module="hasty.reward", function="f")) is None
    with pytest.raises(Mistake, match=r"importing 'hasty\.reward' .*RuntimeError: not today"):
        load_reward(spec({"python": {"module": "hasty.reward", "function": "f"}}))


def test_held_out_accuracy_is_the_mean_reward_of_one_sample_each() -> None:
    prompts = [Prompt(i, str(i), [1], answer) for i, answer in enumerate(["a", "b", "c", "d"])]
    found = evaluate(
        prompts,
        lambda asked: [
            Sample(p, 0, [2], [0.0], text, "stop", 0) for p, text in zip(asked, "axcx", strict=True)
        ],
        load_reward(spec({"builtin": "exactMatch"})),
    )
    assert (found.accuracy, found.rewards) == (0.5, [1, 0, 1, 0])
