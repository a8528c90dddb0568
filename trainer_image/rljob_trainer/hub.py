"""What cannot be had from the Hugging Face hub: a mistake of the job, or trouble that a restart may find gone."""

from __future__ import annotations

from http import HTTPStatus

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # made when it is first asked for

from rljob_trainer.errors import Mistake, UnreachableError

HUB_ERRORS = (OSError, httpx.HTTPError)
"""Of its libraries, where the hub refuses or does not answer."""
MAY_PASS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Answers, beside those from 500 on, after which the same request may be granted later."""


def refusal(what: str, instead: str, error: Exception, *, offline: bool) -> Mistake | UnreachableError:
    """The sentence for what is neither in the cache nor to be had; `instead` says what else the field could name."""
    reason = _reason(error)
    said = " ".join(str(reason).split())
    sentence = (
        f"{what} is not in the local cache and cannot be downloaded ({type(reason).__name__}: {said}). Unless that"
        f" says what to do, check the network, or give {instead}"
    )
    return Mistake(sentence) if offline or _lasts(reason) else UnreachableError(sentence)


def _reason(error: Exception) -> BaseException:
    """The hub's own answer, which its libraries wrap; without one, the error itself."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return next((one for one in chain if isinstance(one, HfHubHTTPError)), error)


def _lasts(reason: BaseException) -> bool:
    """Whether the hub has refused for good. Without an answer of its own the way to it is in trouble."""
    if not isinstance(reason, HfHubHTTPError):
        return False
    status = reason.response.status_code
    return status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in MAY_PASS
