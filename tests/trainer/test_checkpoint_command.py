"""`rljob checkpoint`, on the volume of a job."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rljob_cli.checkpoint import app
from rljob_trainer.checkpoint import export
from rljob_trainer.checkpoint.directory import open_storage
from rljob_trainer.checkpoint.plan import plan_resume
from rljob_trainer.errors import Mistake
from trainer.checkpoints import VERSIONS, a_run, layout, save


def rljob_checkpoint(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output or str(result.exception)


def test_ls_shows_whole_and_broken_ones(tmp_path: Path) -> None:
    _, second = save(a_run(tmp_path / "work" / "volumes" / "claim"), 1, 2)
    (second.path / "state" / "rank_0.bin").unlink()
    code, text = rljob_checkpoint("ls", tmp_path / "work", "--output", "json")
    rows = json.loads(text)
    assert code == 0
    assert [(row["step"], row["layout"]) for row in rows] == [(1, "tp1-pp1-dp1"), (2, "tp1-pp1-dp1")]
    assert [row["problem"] for row in rows] == ["", "state/rank_0.bin is missing or has another size"]
    assert rljob_checkpoint("ls", tmp_path / "work")[0] == 0


def test_verify_reads_every_byte_and_fails_by_exit_code(tmp_path: Path) -> None:
    _, second = save(a_run(tmp_path), 1, 2)
    assert rljob_checkpoint("verify", tmp_path) == (0, "step 1: whole\nstep 2: whole\n")
    (second.path / "state" / "rank_0.bin").write_bytes(b"weightt2")
    assert rljob_checkpoint("verify", tmp_path, "--step", 1)[0] == 0
    assert rljob_checkpoint("verify", tmp_path) == (
        1,
        "step 1: whole\nstep 2: state/rank_0.bin does not match its checksum\n",
    )


def test_verify_answers_programs_too(tmp_path: Path) -> None:
    _, second = save(a_run(tmp_path), 1, 2)
    (second.path / "state" / "rank_0.bin").unlink()
    code, text = rljob_checkpoint("verify", tmp_path, "-o", "json")
    assert code == 1
    assert json.loads(text) == [
        {"step": 1, "problems": []},
        {"step": 2, "problems": ["state/rank_0.bin cannot be read: No such file or directory"]},
    ]


def test_the_command_that_the_refusal_of_another_backend_names_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[tuple[Path, Path]] = []
    monkeypatch.setattr(export, "export_checkpoint", lambda *places: exported.append(places))
    monkeypatch.chdir(tmp_path)
    run = a_run(Path("runs/demo/storage"))
    save(run, 2)
    other = layout().model_copy(update={"backend": "megatron"})
    with pytest.raises(Mistake) as refusal:
        plan_resume(open_storage(run), run, other, VERSIONS)
    (command,) = re.findall("`rljob checkpoint (.+)`", str(refusal.value))
    assert rljob_checkpoint(*command.split())[0] == 0
    assert exported == [(Path("runs/demo/storage/checkpoints/step_2"), Path("DIRECTORY"))]


def test_ls_does_not_import_torch() -> None:
    code = "import rljob_cli.checkpoint, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=180).returncode == 0
