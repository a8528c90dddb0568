"""Prompts from every source, their order, and the sentence for each thing that can be wrong with them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from transformers import PreTrainedTokenizerBase

from rljob_api.job import JobSpec
from rljob_trainer.builtin.addition.tokenizer import make_tokenizer
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.data import load_data, order, render
from rljob_trainer.errors import Mistake

ROWS: list[dict[str, Any]] = [{"question": f"{n}+{n}=", "answer": str(2 * n), "hint": n} for n in range(10)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()


def spec(train: dict[str, Any], validation: dict[str, Any] | None = None, **more: Any) -> JobSpec:
    data = {"train": train} | ({"validation": validation} if validation else {})
    return JobSpec.parse(
        {"model": {"source": "m"}, "data": data, "reward": {"builtin": "exactMatch"}, **more}
    )


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_builtin_addition_has_a_held_out_fifth(tokenizer: PreTrainedTokenizerBase) -> None:
    source = {"source": "builtin:addition"}
    train, validation = load_data(spec(source, source), tokenizer)
    assert validation is not None
    assert (len(train), len(validation), train.dropped) == (8000, 2000, 0)
    prompt = train[0]
    a, b = prompt.text.removeprefix("<bos>").removesuffix("=").split("+")
    assert int(prompt.answer) == int(a) + int(b)
    assert not {p.text for p in validation.all()} & {train[i].text for i in range(len(train))}


def test_a_jsonl_file_gives_prompts_with_their_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    train, validation = load_data(spec({"source": jsonl(tmp_path / "a.jsonl", ROWS)}), tokenizer)
    assert validation is None
    prompt = train[3]
    assert (prompt.index, prompt.text, prompt.answer, prompt.item) == (3, "<bos>3+3=", "6", ROWS[3])
    assert tokenizer.decode(prompt.token_ids) == prompt.text


def test_a_parquet_file_may_hold_chat_messages_and_numbers(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    messages = [{"role": "user", "content": "1+2="}]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"chat": [messages], "sum": [3]}), path)
    train, _ = load_data(spec({"source": str(path), "promptKey": "chat", "answerKey": "sum"}), tokenizer)
    assert (train[0].text, train[0].answer) == ("<bos>1+2=", "3")


def test_a_reasoning_gym_task_asks_different_things_in_validation(tokenizer: PreTrainedTokenizerBase) -> None:
    source = {"source": "reasoning-gym:chain_sum", "size": 20}
    train, validation = load_data(spec(source, source), tokenizer)
    assert validation is not None
    assert (len(train), len(validation)) == (20, 20)
    assert train[0].item["metadata"]["source_dataset"] == "chain_sum"
    again, _ = load_data(spec(source, source), tokenizer)
    assert again.rows == train.rows


def test_a_hugging_face_id_is_loaded_with_its_config_and_split(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase
) -> None:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(*arguments: Any, split: str) -> datasets.Dataset:
        asked.append((*arguments, split))
        return datasets.Dataset.from_list(ROWS[:5] if split == "train" else ROWS[5:])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = {"source": "openai/gsm8k", "config": "main"}
    train, validation = load_data(spec(source, source), tokenizer)
    assert asked == [("openai/gsm8k", "main", "train"), ("openai/gsm8k", "main", "test")]
    assert train[0].answer == "0"
    assert validation is not None
    assert validation[0].answer == "10"


def test_without_a_chat_template_the_text_goes_in_with_special_tokens() -> None:
    plain = make_tokenizer()
    plain.chat_template = None
    text, ids = render("1+1=", plain)
    assert (text, ids[0]) == ("1+1=", plain.bos_token_id)


def test_training_prompts_that_validation_asks_are_dropped_and_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    validation = {"source": jsonl(tmp_path / "v.jsonl", ROWS[:3])}
    train, _ = load_data(spec({"source": jsonl(tmp_path / "t.jsonl", ROWS)}, validation), tokenizer)
    assert (len(train), train.dropped) == (7, 3)
    with pytest.raises(Mistake, match="none is left to train on"):
        load_data(spec(validation, validation), tokenizer)


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    first, second = order(1, 0, 50), order(1, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert list(first) != list(second) != list(order(2, 1, 50))
    # Frozen: a checkpoint of today must go on with the same prompts under the numpy of tomorrow.
    assert order(42, 3, 8).tolist() == FROZEN


FROZEN = [5, 4, 1, 6, 2, 0, 7, 3]


def test_batches_run_over_the_end_of_an_epoch(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    train, _ = load_data(spec({"source": jsonl(tmp_path / "a.jsonl", ROWS)}), tokenizer)
    seen = [p.index for start in range(0, 20, 4) for p in train.batch(start, 4)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert [p.index for p in train.batch(8, 4)] == seen[8:12]
    assert len(train.batch(0, 25)) == 25


def test_a_missing_column_names_the_columns_there_are(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    source = jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(Mistake) as told:
        load_data(spec({"source": source, "promptKey": "problem"}), tokenizer)
    assert str(told.value) == (
        f"spec.data.train.promptKey: row 1 of {source!r} has no column 'problem'; "
        "it has 'question', 'answer', 'hint'"
    )


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "has no rows"),
        ("{nonsense", r"a\.jsonl:1 is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"question": 5, "answer": "x"}', "has 5 in 'question', not a text or chat messages"),
        ('{"question": "", "answer": "x"}', "has '' in 'question'"),
        ('{"question": "x", "answer": null}', "has None in 'answer', not a text or number"),
        ('{"question": "x", "answer": "y"}\n{"question": "x"}', "row 2 .* has no column 'answer'"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, lines: str, sentence: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines)
    with pytest.raises(Mistake, match=sentence):
        load_data(spec({"source": str(path)}), tokenizer)


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ({"source": "missing.jsonl"}, r"no file 'missing\.jsonl' .* by spec\.trainer\.volumeMounts"),
        ({"source": "reasoning-gym:nonsense"}, "no task 'nonsense'"),
        ({"source": "builtin:addition", "split": "dev"}, "has train and test, not 'dev'"),
    ],
)
def test_a_source_that_is_not_there_is_told(
    tokenizer: PreTrainedTokenizerBase, dataset: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Mistake, match=sentence):
        load_data(spec(dataset), tokenizer)


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"question": "1", "answer": "1"}\r\n{"question": "gr\xfc\xdf", "answer": "1"}\r\n')
    with pytest.raises(
        Mistake, match=r"a\.jsonl:2 is not UTF-8 .* at byte 16 of the line.*: save the file as UTF-8"
    ):
        load_data(spec({"source": str(path)}), tokenizer)


@pytest.mark.parametrize("damage", ["text", "cut off", "garbled"])
def test_a_file_that_is_no_whole_parquet_is_told(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, damage: str
) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS * 100), path)
    whole = path.read_bytes()
    middle = len(whole) // 4
    garbled = whole[:middle] + bytes(64) + whole[middle + 64 :]
    path.write_bytes({"text": b"text", "cut off": whole[:-9], "garbled": garbled}[damage])
    with pytest.raises(Mistake, match=r"spec\.data\.train\.source: .* is not a whole Parquet file: "):
        load_data(spec({"source": str(path)}), tokenizer)


REFUSALS: dict[int, tuple[type[Exception], str]] = {
    errno.EIO: (StorageError, "the volume at .* does not work .Input/output error"),
    errno.ESTALE: (StorageError, "the volume at .* does not work .Stale file handle"),
    errno.EACCES: (Mistake, r"a\.parquet may not be read .Permission denied"),
}


@pytest.mark.parametrize("number", REFUSALS)
def test_a_parquet_file_on_a_volume_that_refuses_is_not_called_damaged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: PreTrainedTokenizerBase,
    number: int,
) -> None:
    def refused(path: Path) -> NoReturn:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.parquet").touch()
    monkeypatch.setattr(pyarrow.parquet, "read_table", refused)
    raised, sentence = REFUSALS[number]
    with pytest.raises(raised, match=sentence):
        load_data(spec({"source": str(tmp_path / "a.parquet")}), tokenizer)


def test_lines_that_a_volume_does_not_give_are_no_mistake(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "a.jsonl").symlink_to("/proc/self/mem")  # nothing can be read at its beginning
    with pytest.raises(StorageError, match=r"Reading spec\.data\.train\.source failed: .*Input/output error"):
        load_data(spec({"source": str(tmp_path / "a.jsonl")}), tokenizer)


def test_an_unknown_split_on_the_hub_is_told(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase
) -> None:
    def load_dataset(*arguments: Any, split: str) -> datasets.Dataset:
        raise ValueError(f'Unknown split "{split}". Should be one of ["main"].')

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(Mistake, match=r"'some/set' \(config 'default', split 'train'\): Unknown split"):
        load_data(spec({"source": "some/set"}), tokenizer)


def test_a_hub_out_of_reach_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(
        Mistake, match=r"'some/set' is not in the local cache and cannot be downloaded .*network"
    ):
        load_data(spec({"source": "some/set"}), tokenizer)


def test_a_prompt_that_leaves_no_room_to_answer_is_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    long = {"question": "1" * 30, "answer": "1"}
    limits = {"rollout": {"vllm": {"maxModelLen": 32}}, "algorithm": {"sampling": {"maxNewTokens": 2}}}
    source = {"source": jsonl(tmp_path / "a.jsonl", [*ROWS, long])}
    with pytest.raises(Mistake, match=r"row 11 .*31 tokens.*maxNewTokens 2 .*maxModelLen 32"):
        load_data(spec(source, **limits), tokenizer)
    # 31 tokens and one new one fit; and the model's own limit counts where the job gives none.
    limits["algorithm"]["sampling"]["maxNewTokens"] = 1
    load_data(spec(source, **limits), tokenizer)
    with pytest.raises(Mistake, match="maxModelLen 20"):
        load_data(spec(source, algorithm=limits["algorithm"]), tokenizer, model_limit=20)


def test_chat_messages_need_a_chat_template(tmp_path: Path) -> None:
    plain = make_tokenizer()
    plain.chat_template = None
    source = jsonl(tmp_path / "a.jsonl", [{"question": [{"role": "user", "content": "x"}], "answer": "y"}])
    with pytest.raises(Mistake, match="no chat template"):
        load_data(spec({"source": source}), plain)
