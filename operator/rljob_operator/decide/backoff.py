"""The pause before a restart: `spec.failurePolicy.backoffSeconds`."""

from __future__ import annotations

from rljob_api.failure import Backoff


def pause(backoff: Backoff, failures_in_a_row: int) -> float:
    """Seconds: `initial` after the first failure, doubled with each further one, never above `max`."""
    if failures_in_a_row < 1:
        return 0.0
    doublings = min(failures_in_a_row - 1, 32)  # beyond, the number only gets long
    return float(min(backoff.initial * 2**doublings, backoff.max))
