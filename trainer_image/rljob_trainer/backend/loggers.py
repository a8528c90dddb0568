"""How much the backend's library says. For training and for the conversion, which need not have loaded it."""

from __future__ import annotations

import logging

from rljob_api.parallelism import BackendOptions, Megatron


def set_logging_level(options: BackendOptions) -> None:
    """What Megatron's own loggers let through."""
    if isinstance(options, Megatron) and options.logging_level is not None:
        logging.getLogger("megatron").setLevel(options.logging_level)
