"""Random weights: the kinds and bytes of a quantized model, numbers that keep activations in bounds."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_bench import tiny_mixture, tiny_shape

from ostro.bench.weights import CODEBOOKS, _packed, planned_bytes, random_weights
from ostro.checkpoint.names import expected_tensors
from ostro.checkpoint.packed import INT4, PACKINGS, PackedTensor
from ostro.checkpoint.tensors import Tensor
from ostro.errors import RequestError


def kinds(tensors: dict[str, Tensor]) -> dict[str, str]:
    return {
        name: tensor.kind if isinstance(tensor, PackedTensor) else tensor.dtype.name
        for name, tensor in tensors.items()
        if isinstance(tensor, PackedTensor | np.ndarray)
    }


def values(tensor: Tensor) -> np.ndarray:
    return tensor.astype(np.float32) if isinstance(tensor, np.ndarray) else tensor.dequantize()


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("config", [tiny_shape(), tiny_shape(tie_word_embeddings=True), tiny_mixture()])
def test_complete_and_as_large_as_planned(config: object, bits: int) -> None:
    tensors = random_weights(config, bits)  # type: ignore[arg-type]
    shapes = expected_tensors(config)  # type: ignore[arg-type]
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
    assert sum(tensor.nbytes for tensor in tensors.values()) == planned_bytes(config, bits)  # type: ignore[arg-type]


def test_kinds_at_4_bits() -> None:
    found = kinds(random_weights(tiny_mixture(), 4))
    assert found["model.embed_tokens.weight"] == "P4G"
    assert found["lm_head.weight"] == "P8"
    assert found["model.layers.1.self_attn.q_proj.weight"] == "P4G"
    assert found["model.layers.2.block_sparse_moe.experts.3.w2.weight"] == "P4G"
    assert found["model.layers.0.block_sparse_moe.gate.weight"] == "bfloat16"
    assert found["model.layers.0.input_layernorm.weight"] == "bfloat16"
    tied = kinds(random_weights(tiny_shape(tie_word_embeddings=True), 4))
    assert tied["model.embed_tokens.weight"] == "P8"


def test_kinds_at_8_and_16_bits() -> None:
    norms = ("norm.weight", "layernorm.weight")
    eight, sixteen = (kinds(random_weights(tiny_shape(), bits)) for bits in (8, 16))
    assert {kind for name, kind in eight.items() if not name.endswith(norms)} == {"P8"}
    assert set(sixteen.values()) == {"bfloat16"}


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_outputs_have_the_variance_of_inputs(bits: int) -> None:
    config = tiny_shape(hidden_size=512, intermediate_size=1024, num_hidden_layers=1, sliding_windows=(None,))
    tensors = random_weights(config, bits)
    for name in ("self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj"):
        matrix = values(tensors[f"model.layers.0.{name}.weight"])
        assert np.isfinite(matrix).all()
        assert 0.8 < matrix.shape[1] * float(np.mean(matrix**2)) < 1.3
        assert abs(float(matrix.mean())) < 0.05 * float(matrix.std())
    assert 0.8 < float(np.mean(values(tensors["model.embed_tokens.weight"]) ** 2)) < 1.3


@pytest.mark.parametrize("kind", ["P4", "P4G", "P8"])
def test_every_layout_that_a_model_may_have(kind: str) -> None:
    tensor = _packed(PACKINGS[kind], 100, 700, 0.1, INT4, np.random.Generator(np.random.SFC64(0)))
    assert 0.085 < float(np.sqrt(np.mean(tensor.dequantize() ** 2))) < 0.12
    assert abs(float(tensor.dequantize().mean())) < 0.01


def test_8_bits_never_mean_minus_128() -> None:
    codes = random_weights(tiny_shape(), 8)["lm_head.weight"].codes  # type: ignore[union-attr]
    assert codes.min() == 1
    assert codes.max() == 255


def test_no_two_tensors_share_memory_and_threads_change_nothing() -> None:
    one, two = (random_weights(tiny_mixture(), 4, num_threads=threads) for threads in (1, 3))
    assert all(np.array_equal(values(one[name]), values(two[name])) for name in one)
    matrices = [tensor.codes for tensor in one.values() if isinstance(tensor, PackedTensor)]
    assert len({codes.ctypes.data for codes in matrices}) == len(matrices)
    assert not np.array_equal(matrices[1], matrices[4])


@pytest.mark.parametrize("name", CODEBOOKS)
def test_codebooks(name: str) -> None:
    tensor = random_weights(tiny_shape(), 4, name)["model.layers.0.mlp.up_proj.weight"]
    assert isinstance(tensor, PackedTensor)
    assert tensor.codebook == CODEBOOKS[name]
    assert all(-127 <= value <= 127 for value in tensor.codebook)


@pytest.mark.parametrize(
    ("bits", "codebook", "param"), [(5, None, "bits"), (4, "fp4", "codebook"), (8, "int4", "codebook")]
)
def test_what_there_is_not_is_refused(bits: int, codebook: str | None, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        random_weights(tiny_shape(), bits, codebook)
    assert caught.value.param == param
