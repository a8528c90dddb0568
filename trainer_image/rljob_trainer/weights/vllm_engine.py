"""The receiving end inside a vLLM worker: takes weights from a group or a directory and loads them layer by layer.

Driven by vLLM's weight-transfer routes, which `sync.py` calls. An update may be cut off at any point by the death of
the trainer; the next one then starts over on the same server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rljob_trainer.weights.disk import read_parts
from rljob_trainer.weights.group import RENDEZVOUS_TIMEOUT, Group, Wire, join
from rljob_trainer.weights.vllm_experts import pack_on_reload

STORAGE_ENV = "RLJOB_STORAGE"
"""Root of the job's volume as a rollout pod sees it; set by `rollout/server.py`."""


@dataclass
class Meeting(WeightTransferInitInfo):  # type: ignore[misc]  # vLLM is not typed here
    """Where the group meets, and who this server is in it."""

    host: str
    port: int
    rank_offset: int
    """Group rank of this server's worker 0."""
    world_size: int
    wire: Wire
    timeout_seconds: float


@dataclass
class Source(WeightTransferUpdateInfo):  # type: ignore[misc]  # vLLM is not typed here
    """Where this update's weights come from: the group, a directory on the volume, or nowhere."""

    group: bool = False
    directory: str = ""
    """Relative to the storage's root."""
    parts: int = 0
    """Files in it."""


class Receiver(WeightTransferEngine[Meeting, Source]):  # type: ignore[misc]  # vLLM is not typed here
    """One worker's end."""

    init_info_cls = Meeting
    update_info_cls = Source
    group: Group | None = None
    half_loaded = False
    """An update began and did not finish."""

    def init_transfer_engine(self, init_info: Meeting) -> None:
        store = TCPStore(
            init_info.host,
            init_info.port,
            is_master=False,
            timeout=RENDEZVOUS_TIMEOUT,
            wait_for_workers=False,
        )
        parallel = self.parallel_config
        rank = init_info.rank_offset + parallel.data_parallel_index * parallel.world_size + parallel.rank
        timeout = timedelta(seconds=init_info.timeout_seconds)
        self.group = join(
            store, rank, init_info.world_size, wire=init_info.wire, device=self.device, timeout=timeout
        )

    def start_weight_update(self) -> None:
        if self.half_loaded:
            # Layers that the cut-off update had begun would count its tensors towards this one.
            finalize_layerwise_reload(self.model, self.model_config)
        self.half_loaded = True
        pack_on_reload(self.model)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: Source) -> None:
        error: Exception | None = None
        for tensors in self._tensors(update_info):
            if error is None:
                try:
                    self.model.load_weights(tensors)
                except (
                    Exception
                ) as failure:  # raised below: what still comes must be taken, others wait for us
                    error = failure
        if error is not None:
            raise error

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        self._repack_tied_head()
        self.half_loaded = False

    def _repack_tied_head(self) -> None:
        """On CPU a tied head multiplies by a packed copy of the embedding, which vLLM's reload leaves as it was."""
        if self.model_config.hf_text_config.tie_word_embeddings:
            head = self.model.lm_head
            head.quant_method.process_weights_after_loading(head)

    def shutdown(self) -> None:
        self.group = None

    def _tensors(self, source: Source) -> Iterator[list[tuple[str, Tensor]]]:
        if source.directory:
            directory = Path(os.environ[STORAGE_ENV]) / source.directory
            yield from read_parts(directory, source.parts, self.device)
        elif source.group and self.group is not None:
            for bucket in self.group.receive():
                yield list(bucket.tensors())
        else:
            raise RuntimeError("the trainer abandoned this update")
