"""`make images`: build all images, and say under which names they are found."""

from __future__ import annotations

import sys

from kube.programs import Unavailable

from .seed import seed

if __name__ == "__main__":
    try:
        found = seed()
    except Unavailable as reason:
        sys.exit(f"tests that need the images will be skipped: {reason}")
    for name in found.names.values():
        print(name)
