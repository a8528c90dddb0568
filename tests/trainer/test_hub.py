"""Models and datasets of a hub: what it refuses for good is the job's mistake; what may pass is tried again."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import constants
from huggingface_hub.utils import _http, httpx  # type: ignore[attr-defined]  # made when it is first asked for

from rljob_api.data import Dataset
from rljob_api.model import Model
from rljob_api.progress import EXIT_FAILED, Ending, LastWords
from rljob_trainer import train
from rljob_trainer.checkpoint.durable import StorageError
from rljob_trainer.convert.step import run_step
from rljob_trainer.errors import Mistake, UnreachableError
from rljob_trainer.model_source import fetched
from rljob_trainer.progress import ProgressBoard
from rljob_trainer.sources import Purpose, read_rows
from rljob_trainer.words import TERMINATION_LOG_ENV
from trainer.checkpoints import a_run, in_child

NOT_HERE = "is not in the local cache and cannot be downloaded"


class Hub:
    """A real HTTP server that answers every question alike, as a test decides."""

    def __init__(self) -> None:
        self.code, self.headers = 200, dict[str, str]()
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(hub.code)
                for name, value in hub.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The only one that is asked, with an empty cache."""
    hub = Hub()
    address = f"http://127.0.0.1:{hub.server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(
        _http, "time", SimpleNamespace(sleep=lambda seconds: None)
    )  # between the library's own tries
    thread = threading.Thread(target=hub.server.serve_forever, args=[0.02])
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def the_model() -> object:
    return fetched(Model(source="some/model", revision="v9"))


def the_dataset() -> object:
    return read_rows(Dataset(source="some/set"), Purpose("spec.data.train", "train", 0))


@pytest.mark.parametrize("fetch", [the_model, the_dataset])
@pytest.mark.parametrize(
    ("code", "raised"), [(403, Mistake), (429, UnreachableError), (503, UnreachableError)]
)
def test_what_the_hub_answers_is_told_and_may_pass_or_not(
    hub: Hub, fetch: Callable[[], object], code: int, raised: type[Exception]
) -> None:
    hub.code = code
    with pytest.raises(raised, match=rf"{NOT_HERE} \(HfHubHTTPError: .*{code} "):
        fetch()


@pytest.mark.parametrize("fetch", [the_model, the_dataset])
def test_a_hub_that_does_not_answer_may_come_back(hub: Hub, fetch: Callable[[], object]) -> None:
    hub.server.server_close()
    with pytest.raises(UnreachableError, match=NOT_HERE):
        fetch()


@pytest.mark.parametrize(
    ("cause", "raised", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "the volume at .* is full"),
        (httpx.ReadError("connection reset"), UnreachableError, NOT_HERE),
        (ConnectionResetError("by peer"), UnreachableError, NOT_HERE),
        (OSError("Couldn't deserialize thrift"), Mistake, "An error occurred while generating the dataset"),
        (ValueError("not a number"), Mistake, "An error occurred while generating the dataset"),
    ],
)
def test_what_stops_the_making_of_a_dataset_is_told_from_a_fault_of_its_rows(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, raised: type[Exception], told: str
) -> None:
    """The library itself is stood in for: it tells of either in one way."""

    def fails(*_: object, **__: object) -> None:
        raise DatasetGenerationError("An error occurred while generating the dataset") from cause

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(raised, match=told):
        the_dataset()


def test_a_revision_that_the_hub_does_not_have_is_named(hub: Hub) -> None:
    hub.code, hub.headers = 404, {"X-Error-Code": "RevisionNotFound"}
    with pytest.raises(Mistake, match=r"spec\.model\.revision: the hub has no revision 'v9' .*'some/model'"):
        the_model()


def test_without_a_network_by_choice_the_job_is_mistaken(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Mistake, match=rf"'some/model' at revision 'v9' {NOT_HERE} .*HF_HUB_OFFLINE"):
        the_model()


def test_a_rank_that_does_not_get_its_model_ends_with_the_sentence_and_may_be_restarted(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.code = 503
    monkeypatch.setattr(train, "_train", lambda *_: the_model())
    run = a_run(tmp_path)
    ending, code, message = train._ended(run, 1, 1, ProgressBoard(run), lambda: None)
    assert (ending, code) == (Ending.FAILED, EXIT_FAILED)
    assert NOT_HERE in message
    assert capsys.readouterr().err == f"{message}\n"


def test_a_conversion_that_does_not_get_its_model_ends_alike(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.code = 503
    log = tmp_path / "termination-log"
    monkeypatch.setenv(TERMINATION_LOG_ENV, str(log))
    run = a_run(tmp_path, model={"source": "some/model"})

    def convert() -> None:
        assert run_step(run, node=1) == EXIT_FAILED

    assert in_child(convert) == 0
    words = LastWords.model_validate_json(log.read_text())
    assert (words.ending, NOT_HERE in words.message) == (Ending.FAILED, True)
