"""Of which modules layers are built where Transformer Engine is, tried with a stand-in: no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from rljob_api.job import JobSpec
from rljob_trainer.batch import Batch
from trainer import test_megatron, test_megatron_moe
from trainer.ranks import run_ranks
from trainer.test_megatron import ask_logprobs, files_of, make_batch, reference_logprobs


def asked_of_transformer_engine(*, installed: bool, on_gpu: bool) -> dict[str, Any]:
    """The arguments of Transformer Engine's spec; none if Megatron's own modules are taken."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    from rljob_trainer.backend.megatron import layer_spec

    spec = mock.MagicMock()
    config = TransformerConfig(num_layers=1, hidden_size=8, num_attention_heads=2, qk_layernorm=True)
    with (
        mock.patch.object(layer_spec, "HAVE_TE", installed),
        mock.patch("torch.cuda.is_available", return_value=on_gpu),
        mock.patch.object(layer_spec, "get_gpt_layer_with_transformer_engine_spec", spec),
        mock.patch.object(layer_spec, "get_num_layers_to_build", return_value=1),
    ):
        layer_spec.block_spec(config, None)
    return dict(spec.call_args.kwargs) if spec.called else {}


def name_of(parameter: str) -> str:
    from rljob_trainer.backend.megatron.mapping import name_in_table

    return name_in_table(parameter)


def ask() -> tuple[dict[str, Any], ...]:
    return tuple(
        asked_of_transformer_engine(installed=installed, on_gpu=on_gpu)
        for installed, on_gpu in ((True, True), (True, False), (False, True))
    )


def test_transformer_engine_is_taken_where_it_is_installed_on_a_gpu() -> None:
    ((engine, without_gpu, without_engine),) = run_ranks(1, ask)
    assert engine == {"num_experts": None, "moe_grouped_gemm": False, "qk_layernorm": True}
    assert without_gpu == without_engine == {}


def test_norms_that_transformer_engine_fuses_are_known_by_their_names_in_the_table() -> None:
    (name,) = run_ranks(1, name_of, "decoder.layers.3.self_attention.linear_qkv.layer_norm_weight")
    assert name == "decoder.layers.3.input_layernorm.weight"


def ask_by_transformer_engines_spec(
    spec: JobSpec, model: Path, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """`ask_logprobs` of layers after Megatron's specification for Transformer Engine: the same modules, the same
    parameters fused, the same names when saved. Only what the modules compute with is Megatron's own.
    """
    from megatron.core.models.backends import LocalSpecProvider
    from megatron.core.models.gpt import gpt_layer_specs
    from megatron.core.tensor_parallel.layers import ColumnParallelLinear

    from rljob_trainer.backend.megatron import layer_spec

    class NormAndMatrix(ColumnParallelLinear):  # type: ignore[misc]  # megatron-core has no types
        def __init__(self, width: int, *rest: Any, config: Any, **options: Any) -> None:
            super().__init__(width, *rest, config=config, **options)
            self.layer_norm_weight = torch.nn.Parameter(torch.ones(width))
            self.eps = config.layernorm_epsilon

        def forward(self, x: Tensor, *rest: Any) -> Any:
            normed = torch.nn.functional.rms_norm(x, x.shape[-1:], self.layer_norm_weight, self.eps)
            return super().forward(normed, *rest)

    class Fusing(LocalSpecProvider):  # type: ignore[misc]  # megatron-core has no types
        def fuse_layernorm_and_linear(self) -> bool:
            return True

        def column_parallel_layer_norm_linear(self) -> type:
            return NormAndMatrix

        def layer_norm(self, *_: object, **__: object) -> type:
            return layer_spec.RMSNorm

    with (
        mock.patch.object(layer_spec, "uses_transformer_engine", return_value=True),
        mock.patch.object(gpt_layer_specs, "TESpecProvider", Fusing, create=True),
    ):
        return ask_logprobs(spec, model, batch)


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_moe"])
def test_a_conversion_loads_into_layers_that_are_specified_for_transformer_engine(
    tmp_path: Path, kind: str
) -> None:
    if kind == "qwen3":
        model, spec = test_megatron.make_model(tmp_path, kind, tied=True), test_megatron.make_spec(2, 1, 1)
    else:
        model, spec = (
            test_megatron_moe.make_model(tmp_path, kind),
            test_megatron_moe.make_spec(ranks=2, expert=2),
        )
    expected, files = reference_logprobs(model, make_batch()), files_of(model)
    for logprobs, weights in run_ranks(2, ask_by_transformer_engines_spec, spec, model, make_batch()):
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
        assert all(torch.equal(tensor, files[name]) for name, tensor in weights.items())
