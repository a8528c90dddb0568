"""`python -m bench [NAME…]`: measures, writes the results, and makes the table anew."""

from __future__ import annotations

import importlib
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

from bench import SCRATCH
from bench.result import RESULTS, Result, watch_others, write
from bench.table import write_table

NAMES = [
    *("save", "asyncsave", "convert", "sync", "megatronsync", "learning", "backends", "step", "megatronstep"),
    *("cli", "firststep", "trl", "kept", "fanout", "writes", "podevents", "fleet", "flatness", "recovery"),
    *("upkeep", "simulate", "faults"),
]
ON_REQUEST = ["kills"]
"""`make bench-kills`: an hour, or more."""
PATIENCE_SECONDS, STOP_SECONDS = 3600.0, 120.0


def main(names: list[str]) -> int:
    """Exit code: 1 if a benchmark could not be measured. A target that was missed is a result like any other."""
    if {"-h", "--help"} & set(names):
        sys.stdout.write(f"{__doc__}\n\n{', '.join(NAMES)}; only by name: {', '.join(ON_REQUEST)}\n")
        return 0
    if unknown := [name for name in names if name not in NAMES + ON_REQUEST]:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES + ON_REQUEST)}\n")
        return 2
    if len(names) == 1:
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
        )  # so that it ends what it started
        measure(names[0])
        return 0
    # A process each: what one leaves in memory or environment does not slow the next.
    failed = [name for name in names or NAMES if not measured(name)]
    if failed:
        sys.stderr.write(f"not measured: {', '.join(failed)}\n")
    return int(bool(failed))


def measured(name: str) -> bool:
    """Whether it could be, in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "bench", name]) as process:
        try:
            return process.wait(PATIENCE_SECONDS) == 0
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"{name} has not ended after {PATIENCE_SECONDS:g} s and is stopped\n")
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()
            return False


def measure(name: str) -> None:
    others = watch_others()
    shutil.rmtree(SCRATCH / name, ignore_errors=True)
    (SCRATCH / name).mkdir(parents=True)
    result: Result = importlib.import_module(f"bench.{name}").measure(SCRATCH / name)
    write(result, others())
    write_table(RESULTS, NAMES + ON_REQUEST)
    for check in result.checks:
        word = "reached" if check.met else "MISSED"
        print(f"{name}: {check.what}: {check.value:g} (target {check.target}, {word})", flush=True)
    shutil.rmtree(SCRATCH / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
