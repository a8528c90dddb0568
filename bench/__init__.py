"""Measurements against floors and peers. `make bench` runs those that take minutes, `python -m bench NAME` one.

Each module here measures one thing. Where there is a floor or a peer, we and it take turns in the same run, so that a
busy machine slows both, and what counts is the ratio of the medians; the rest are counts, sizes and times with a limit.
Results with machine, versions and commit go to `bench/results`. Forked ranks and vLLM servers are started as the tests
start them.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SCRATCH = REPOSITORY / "runs" / "bench"
"""On the same disk as the checkpoints of `make run`."""

sys.path.append(str(REPOSITORY / "tests"))
