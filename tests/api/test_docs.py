"""What the documentation shows is true of the program: its jobs are valid, its commands and links exist."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from pydantic import JsonValue, TypeAdapter

from rljob_api.data import Dataset
from rljob_api.job import RLJob
from rljob_api.reasons import ASKS_NOTHING, IN_THE_RUNBOOK, Reason
from rljob_api.reward import PythonReward
from rljob_cli.__main__ import PROGRAMS, Command
from rljob_cli.document import read_document
from rljob_cli.load import load_job, parse_job

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
GENERATED = [ROOT / "docs" / "reference.md", ROOT / "docs" / "events-and-metrics.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s[]*)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
COMMAND = re.compile(r"(?:^|`)((?:kubectl )?rljob) ([a-z]+|-\S+)", re.MULTILINE)
KNOWN = {(name.replace("-", " "), command) for name, commands in PROGRAMS.items() for command in commands}


def blocks(language: str, page: Path) -> list[str]:
    """Fenced blocks of a language."""
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


JOBS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks("yaml", page))
    if "kind: RLJob" in text
]


def test_the_documentation_shows_jobs() -> None:
    assert len(JOBS) >= 8


@pytest.mark.parametrize("text", JOBS)
def test_a_job_in_the_documentation_is_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    for dataset in datasets(parse_job(read_document(file))):
        if dataset.is_file and not dataset.source.startswith("/"):
            (tmp_path / dataset.source).touch()
    load_job(file)


def datasets(job: RLJob) -> list[Dataset]:
    return [each for each in (job.spec.data.train, job.spec.data.validation) if each is not None]


def test_the_runbook_has_a_section_for_each_reason_that_asks_something_of_a_person() -> None:
    page = (ROOT / "docs" / "runbook-cluster.md").read_text()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(IN_THE_RUNBOOK)
    assert sorted((*IN_THE_RUNBOOK, *ASKS_NOTHING)) == sorted(Reason)


def test_the_runbook_for_clusters_begins_with_a_link_to_each_section() -> None:
    contents, *_ = (ROOT / "docs" / "runbook-cluster.md").read_text().partition("\n## ")
    assert sorted(re.findall(r"\[(\w+)\]\(#", contents)) == sorted(IN_THE_RUNBOOK)


def test_patterns_in_the_reference_are_code_and_no_links() -> None:
    kinds = re.findall(r"a text like (.)", (ROOT / "docs" / "reference.md").read_text())
    assert set(kinds) == {"`"}


def test_rows_in_the_guide_are_json() -> None:
    for text in blocks("json", ROOT / "docs" / "guide.md"):
        for line in text.splitlines():
            TypeAdapter(dict[str, JsonValue]).validate_json(line)


def test_the_reward_in_the_guide_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rljob_trainer.rewards import load_reward

    (source,) = blocks("python", ROOT / "docs" / "guide.md")
    name = source.partition("\n")[0].removeprefix("# ")
    (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    reward = load_reward(the_job_with_a_reward_of_its_own(tmp_path).spec)
    assert reward("2+2?", r"so \boxed{ 4 }", "4", {}) == 1
    assert reward("2+2?", r"so \boxed{5}", "4", {}) == 0.1
    assert reward("2+2?", "so 4", "4", {}) == 0


def the_job_with_a_reward_of_its_own(folder: Path) -> RLJob:
    file = folder / "job.yaml"
    for text in blocks("yaml", ROOT / "docs" / "guide.md"):
        file.write_text(text)
        job = parse_job(read_document(file))
        if isinstance(job.spec.reward.python, PythonReward):
            return job
    raise AssertionError("the guide shows no such job")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_commands_and_files_that_exist(page: Path) -> None:
    text = page.read_text()
    assert {used for used in COMMAND.findall(text) if not used[1].startswith("-")} <= KNOWN
    assert [link for link in LINK.findall(text) if not leads_somewhere(page, *link)] == []


def leads_somewhere(page: Path, file: str, anchor: str) -> bool:
    target = page.parent / file if file else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text()))


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings."""
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in GENERATED], ids=lambda page: page.stem
)
def test_a_line_of_prose_is_not_longer_than_120_characters(page: Path) -> None:
    prose = FENCE.sub("", page.read_text()).splitlines()
    assert [line for line in prose if len(line) > 120 and not line.startswith("|")] == []


def test_the_readme_names_the_commands_that_take_output_json() -> None:
    _, _, told = (ROOT / "README.md").read_text().partition("Everything takes `--help`.")
    named = re.findall(r"`(\w+)`", told.partition("`--output json`")[0])
    commands = [each for program in PROGRAMS.values() for each in program.items()]
    assert set(named) == {name for name, command in commands if takes_output(command)}


def takes_output(command: Command) -> bool:
    """All subcommands, where there are some."""
    module, attribute = command.target.split(":")
    target = getattr(import_module(f"rljob_cli.{module}"), attribute)
    functions = [each.callback for each in getattr(target, "registered_commands", [])] or [target]
    return all("output" in signature(function).parameters for function in functions)
