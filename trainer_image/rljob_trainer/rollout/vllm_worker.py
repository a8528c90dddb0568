"""What vLLM's workers can be asked beside what they can by themselves: `--worker-extension-cls` makes them inherit it.

`client.py` asks it of every server that it meets.
"""

from __future__ import annotations

from rljob_api.base import Manifest

EXTENSION = "rljob_trainer.rollout.vllm_worker.Telling"
TELL = "rljob_versions"
"""The method below."""


class Telling:
    """Part of each worker: what is known here is what computes the samples, by its own eyes."""

    def rljob_versions(self) -> Manifest:
        from rljob_trainer.checkpoint.versions import process_versions

        return process_versions().model_dump(by_alias=True)
