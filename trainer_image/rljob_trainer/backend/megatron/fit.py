"""Does a model divide by the ranks that are to share it? Asked before anything heavy is done."""

from __future__ import annotations

from dataclasses import dataclass

from rljob_api.parallelism import Parallelism
from rljob_trainer.backend.megatron.architecture import Architecture
from rljob_trainer.errors import Mistake


@dataclass(frozen=True)
class Share:
    """Something of the model that `ranks`, as many as a field says, hold equal parts of."""

    field: str
    ranks: int
    count: int
    what: str


def refuse_uneven(architecture: Architecture, parallelism: Parallelism) -> None:
    """Raises `Mistake` when heads, columns, layers or experts do not divide by the ranks that are to share them."""
    if architecture.experts is None and parallelism.expert > 1:
        raise Mistake(
            f"spec.parallelism.expert: {parallelism.expert} ranks cannot share the experts of a model that has "
            f"none ({architecture.model_type}); set it to 1"
        )
    if architecture.experts is not None and parallelism.tensor > 1 and not parallelism.sequence:
        raise Mistake(
            f"spec.parallelism.sequence: the {parallelism.tensor} tensor ranks would all send the same tokens to the "
            f"model's experts ({architecture.model_type}); set it to true"
        )
    for share in _shares(architecture, parallelism):
        if share.count % share.ranks:
            allowed = [str(n) for n in range(1, share.count + 1) if share.count % n == 0 and n <= 64]
            choice = f"choose one of {', '.join(allowed)}" if len(allowed) > 1 else "set it to 1"
            raise Mistake(
                f"spec.parallelism.{share.field}: {share.ranks} does not divide {share.count}, the number of the "
                f"model's {share.what}; {choice}"
            )


def _shares(architecture: Architecture, parallelism: Parallelism) -> list[Share]:
    shares = [
        Share("tensor", parallelism.tensor, architecture.kv_heads, "key-value heads"),
        Share("pipeline", parallelism.pipeline, architecture.layers, "layers"),
        Share(
            "virtualPipeline",
            parallelism.virtual_pipeline,
            architecture.layers // parallelism.pipeline,
            "layers on a pipeline rank",
        ),
    ]
    if experts := architecture.experts:
        return [
            *shares,
            Share("expert", parallelism.expert, experts.count, "experts"),
            Share("expertTensor", parallelism.expert_tensor, experts.hidden, "columns in an expert"),
        ]
    return [*shares, Share("tensor", parallelism.tensor, architecture.mlp_hidden, "MLP columns")]
