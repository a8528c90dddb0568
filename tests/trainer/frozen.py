"""Imported by the fork server last of all: what it holds by then is looked through for garbage once, and not by each
rank. As the launcher does before it forks."""

from __future__ import annotations

from rljob_trainer.memory import freeze_imports, keep_freed_memory

keep_freed_memory()
freeze_imports()
