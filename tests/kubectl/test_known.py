"""A status that a newer operator wrote: what this program knows of it is shown, and that it is too old is said."""

from __future__ import annotations

from typing import Any

import pytest

from rljob_cli.errors import UserMistake
from rljob_cli.kubectl.known import known
from rljob_cli.words import summary

STATUS: dict[str, Any] = {
    "phase": "Evaluating",
    "message": "all is well",
    "conditions": [
        {"type": "Accepted", "status": "True", "reason": "Valid"},
        {"type": "Evaluated", "status": "True", "reason": "New"},
        {"type": "PodsReady", "status": "True", "reason": "Ready"},
    ],
    "attempt": {"number": 3, "exactness": "AlmostExact"},
    "progress": {"step": 7, "display": "7/10"},
    "somethingNew": {"any": "thing"},
}


def test_unknown_words_are_named_and_all_else_is_shown() -> None:
    status, caveat = known({"status": STATUS})
    assert summary("sums", status).startswith("sums  Evaluating  step 7/10  ")
    assert [one.type.value for one in status.conditions] == ["Accepted", "PodsReady"]
    assert (status.attempt and status.attempt.number, status.attempt and status.attempt.exactness) == (
        3,
        None,
    )
    words = "phase Evaluating, conditions.1.type Evaluated, attempt.exactness AlmostExact"
    assert caveat == (
        f"The operator is newer than this program, which does not know its words ({words}): update `rljob` here."
    )


@pytest.mark.parametrize("job", [{}, {"status": None}, {"status": {"phase": "Training"}}])
def test_a_status_of_known_words_has_no_caveat(job: dict[str, Any]) -> None:
    assert known(job).caveat == ""


def test_a_status_of_which_nothing_can_be_read_is_told_in_a_sentence() -> None:
    strange = [{"type": f"New{number}"} for number in range(200)]
    with pytest.raises(UserMistake, match="The operator is newer than this program"):
        known({"status": {"conditions": strange}})
