"""Replaces mount paths and host names in text: what mounts and DNS do in a cluster, substitution does here."""

from __future__ import annotations

import re
from collections.abc import Mapping


def substitute(text: str, places: Mapping[str, str]) -> str:
    """Every whole occurrence of a key becomes its value; of two keys that fit, the longer one counts.

    One pass: what was put in is not looked at again.
    """
    if not places:
        return text
    longest_first = sorted(places, key=len, reverse=True)
    pattern = "|".join(re.escape(key) for key in longest_first)
    return re.sub(rf"(?<![\w.-])(?:{pattern})(?![\w-]|\.\w)", lambda found: places[found.group()], text)
