"""An operator with one rule more than the API server: as after an upgrade, for jobs of the time before."""

from __future__ import annotations

import sys

from rljob_api.rules import RULES, Rule
from rljob_operator.__main__ import main

if __name__ == "__main__":
    RULES.append(Rule("no-job-at-all", "model.source", "name another model.", lambda spec: False, "false"))
    sys.exit(main())
