"""Ranks that meet, or not: who is named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from torch._C._distributed_c10d import TCPStore
from torch.distributed import DistError

from requirements.gangs import a_gang
from rljob_trainer import rendezvous


class Late(TCPStore):
    """Rank 1 comes as soon as it was waited for in vain."""

    def wait(self, keys: list[str], *patience: timedelta) -> None:
        try:
            super().wait(keys, *patience)
        except DistError:
            self.set("arrived/1", "")
            raise


def test_a_rank_that_comes_just_after_the_limit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "TCPStore", Late)
    with pytest.raises(
        rendezvous.AbsentRanksError,
        match=r"did not meet: rank 1 did not come to .* raise spec\.dtensor\.distributedTimeoutMinutes",
    ):
        rendezvous.meet(a_gang(tmp_path, 2), 0, timedelta(seconds=0.1))


def test_all_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(rendezvous.AbsentRanksError, match="did not meet: ranks 1, 2 did not come to"):
        rendezvous.meet(a_gang(tmp_path, 3), 0, timedelta(seconds=0.1))
