"""Of which modules layers are built where Transformer Engine is, tried with a stand-in: no GPU is needed."""

from __future__ import annotations

from typing import Any
from unittest import mock

from trainer.ranks import run_ranks


def asked_of_transformer_engine(*, installed: bool, on_gpu: bool) -> dict[str, Any]:
    """The arguments of Transformer Engine's spec; none if Megatron's own modules are taken."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    from rljob_trainer.backend.megatron import layer_spec

    spec = mock.Mock()
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
