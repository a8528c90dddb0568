"""Memory that a process keeps, measured by the page faults that it saves."""

from __future__ import annotations

import gc
import multiprocessing
import resource
from collections.abc import Callable

from rljob_trainer.memory import freeze_imports, keep_freed_memory

BYTES = 96 << 20
PAGE = resource.getpagesize()


def in_new_process(act: Callable[[], None]) -> int | None:
    """Its exit code. Not a fork: of this process nobody knows what its heap looks like."""
    process = multiprocessing.get_context("spawn").Process(target=act)
    process.start()
    process.join()
    return process.exitcode


def faults_of_a_second_copy() -> int:
    content = b"1" * BYTES
    bytearray(content)  # and freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(content)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def keeping() -> None:
    keep_freed_memory()
    assert faults_of_a_second_copy() < BYTES / PAGE / 10


def by_default() -> None:
    assert faults_of_a_second_copy() > BYTES / PAGE / 2


def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    assert in_new_process(keeping) == 0


def test_without_that_each_copy_faults_in_every_page() -> None:
    """Negative control."""
    assert in_new_process(by_default) == 0


def frozen() -> None:
    freeze_imports()
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())


def test_what_was_imported_is_out_of_the_collectors_way() -> None:
    assert in_new_process(frozen) == 0
