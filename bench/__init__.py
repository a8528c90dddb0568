"""Measurements against floors and peers. `make bench` runs all of them, `python -m bench NAME` one.

Each module here measures one thing: what we do and what it is compared with take turns in the same run, so that a
busy machine slows both, and what counts is the ratio of the medians. Results with machine and versions go to
`bench/results`. Forked ranks and vLLM servers are started as the tests start them.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SCRATCH = REPOSITORY / "runs" / "bench"
"""On the same disk as the checkpoints of `make run`."""

sys.path.append(str(REPOSITORY / "tests"))
