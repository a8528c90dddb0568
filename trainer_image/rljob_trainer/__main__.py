"""What a container runs: `python -m rljob_trainer train | rollout | convert`.

Kept tiny, because spawned processes import it again.
"""

from __future__ import annotations

import sys

USAGE = "usage: python -m rljob_trainer train | rollout | convert"


def main() -> int:
    """Read the attempt's run file and hand over to the role."""
    from rljob_trainer import pod

    match sys.argv[1:]:
        case ["train"]:
            return pod.train()
        case ["rollout"]:
            return pod.rollout()
        case ["convert"]:
            return pod.convert()
        case ["--help"]:
            print(USAGE)
            return 0
        case _:
            print(USAGE, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
