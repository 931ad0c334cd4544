"""4 and 8 bits: the codes, the size, the gradients, and what is left whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ostro.errors import BackendError, RequestError
from ostro.transformers import AutoModelForCausalLM, BitsAndBytesConfig
from ostro.transformers.quantization import FP4, NF4, Linear4bit, Linear8bit

KINDS = [
    {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    {"load_in_4bit": True},
    {"load_in_8bit": True},
]


def normal_quantiles(probabilities: torch.Tensor) -> torch.Tensor:
    return 2**0.5 * torch.erfinv(2 * probabilities - 1)


def test_the_nf4_table_is_the_papers_construction() -> None:
    """Quantiles of a normal distribution, 7 below zero and 8 above it, scaled to 1 (QLoRA)."""
    offset = 0.9677083
    positive = normal_quantiles(torch.linspace(offset, 0.5, 9)[:-1])
    negative = -normal_quantiles(torch.linspace(offset, 0.5, 8)[:-1])
    table = torch.cat([positive, torch.zeros(1), negative]).sort().values
    assert torch.allclose(table / table.max(), torch.tensor(NF4), atol=1e-4)
    assert sorted(FP4) == list(FP4)
    assert len(FP4) == 16


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(8, 64), (5, 33), (3, 200)])
def test_every_weight_takes_the_nearest_code(kind: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    table = torch.tensor(NF4 if kind == "nf4" else FP4)
    padded = torch.nn.functional.pad(weight.reshape(-1), (0, -weight.numel() % 64)).reshape(-1, 64)
    scale = padded.abs().amax(dim=1, keepdim=True)
    nearest = (padded / scale)[..., None].sub(table).abs().argmin(-1)
    expected = (table[nearest] * scale).reshape(-1)[: weight.numel()].reshape(shape)
    assert torch.allclose(Linear4bit(weight, kind).dequantize(torch.float32), expected, atol=1e-6)


def test_zeros_stay_zeros() -> None:
    for layer in (
        Linear4bit(torch.zeros(4, 64), "nf4"),
        Linear4bit(torch.zeros(4, 64), "nf4", True),
        Linear8bit(torch.zeros(4, 64)),
    ):
        assert torch.equal(layer.dequantize(torch.float32), torch.zeros(4, 64))


def test_bytes_per_weight() -> None:
    weight = torch.randn(256, 1024)

    def held(layer: torch.nn.Module) -> float:
        return sum(buffer.nbytes for buffer in layer.buffers()) / weight.numel()

    assert held(Linear4bit(weight)) == pytest.approx(0.5 + 4 / 64, abs=1e-3)
    assert held(Linear4bit(weight, double_quant=True)) == pytest.approx(0.5 + 1 / 64 + 4 / 64 / 256, abs=1e-3)
    assert held(Linear8bit(weight)) == pytest.approx(1 + 4 / 1024, abs=1e-3)


def test_errors_of_the_three_kinds() -> None:
    weight = torch.randn(128, 512, generator=torch.Generator().manual_seed(1))

    def error(layer: Any) -> float:
        return float((layer.dequantize(torch.float32) - weight).pow(2).mean().sqrt())

    nf4, double, fp4, int8 = (
        error(layer)
        for layer in (
            Linear4bit(weight),
            Linear4bit(weight, "nf4", True),
            Linear4bit(weight, "fp4"),
            Linear8bit(weight),
        )
    )
    assert int8 < 0.02 < nf4 < 0.1
    assert nf4 < fp4 < 0.15
    assert double == pytest.approx(nf4, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_unpacked_weight(kind: dict[str, Any]) -> None:
    layer = BitsAndBytesConfig(**kind).quantize(torch.randn(6, 64))
    x = torch.randn(3, 64, requires_grad=True)
    layer(x).pow(2).sum().backward()
    y = x.detach().clone().requires_grad_()
    torch.nn.functional.linear(y, layer.dequantize(torch.float32)).pow(2).sum().backward()
    assert torch.allclose(x.grad, y.grad)
    assert not list(layer.parameters())


def test_no_unpacked_weight_waits_for_the_backward_pass() -> None:
    layer = Linear4bit(torch.randn(512, 512))
    saved: list[int] = []
    x = torch.randn(2, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        layer(x)
    assert sum(saved) < 512 * 512


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["nemo", "mixtral", "llama-3.2"])
def test_a_loaded_model(
    variant: str, kind: dict[str, Any], tiny_checkpoint: Callable[[str], Path], prompt: torch.Tensor
) -> None:
    whole = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(variant))
    model = AutoModelForCausalLM.from_pretrained(
        tiny_checkpoint(variant), quantization_config=BitsAndBytesConfig(**kind)
    )
    packed = {name for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bit)}
    linears = {name for name, module in whole.named_modules() if isinstance(module, torch.nn.Linear)}
    kept = {name for name in linears if name == "lm_head" or name.endswith(".gate")}
    assert packed == linears - kept
    if variant == "mixtral":
        assert sum(".experts." in name for name in packed) == 3 * 8 * 3
    assert model.is_quantized
    assert model.num_parameters() == whole.num_parameters()
    with torch.no_grad():
        with_unpacked = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(variant))
        for name in packed:
            weight = model.get_submodule(name).dequantize(torch.float32)
            with_unpacked.get_submodule(name).weight.copy_(weight)
        exact = with_unpacked(prompt).logits
        assert (model(prompt).logits - exact).abs().max() <= 1e-5 * exact.abs().max()
    held = model.get_memory_footprint()
    rest = sum(p.nbytes for p in model.parameters())
    count = sum(whole.get_submodule(name).weight.numel() for name in packed)
    limit = 1.2 if kind.get("load_in_8bit") else 0.75  # small matrices: padding and the tables of 16 weigh something
    assert held - rest <= limit * count
    assert model.generate(prompt, max_new_tokens=3, do_sample=False).shape[1] == 43


def test_loading_in_four_bits_by_the_short_name_and_from_a_dict(tiny_checkpoint: Callable[[str], Path]) -> None:
    folder = tiny_checkpoint("nemo")
    short = AutoModelForCausalLM.from_pretrained(folder, load_in_4bit=True)
    config = {"load_in_4bit": True, "quant_method": "bitsandbytes"}
    assert (
        short.get_memory_footprint()
        == AutoModelForCausalLM.from_pretrained(folder, quantization_config=config).get_memory_footprint()
    )
    skipping = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["q_proj", "model.layers.1"])
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=skipping)
    packed = [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    assert packed
    assert not [name for name in packed if name.endswith("q_proj") or name.startswith("model.layers.1.")]


def test_a_gradient_flows_through_a_four_bit_model(
    tiny_checkpoint: Callable[[str], Path], prompt: torch.Tensor
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("nemo"), load_in_4bit=True).train()
    model.gradient_checkpointing_enable()
    model(prompt, labels=prompt).loss.backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", ["float16", "torch.float16", torch.float16])
def test_compute_dtype(dtype: Any, tiny_checkpoint: Callable[[str], Path], prompt: torch.Tensor) -> None:
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)
    assert config.bnb_4bit_compute_dtype == torch.float16
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("nemo"), quantization_config=config)
    assert model.model.layers[0].mlp.up_proj.compute_dtype == torch.float16
    with torch.no_grad():
        assert model(prompt).logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"bnb_4bit_quant_type": "int4"}, "nf4, fp4"),
        ({"llm_int8_threshold": 3.0}, "llm_int8_threshold"),
        ({"llm_int8_enable_fp32_cpu_offload": True}, "offload"),
        ({"bnb_4bit_quant_storage": torch.bfloat16}, "uint8"),
    ],
)
def test_what_has_no_meaning_here_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        BitsAndBytesConfig(load_in_4bit=True, **values)
    with pytest.raises(BackendError, match="int3"):
        BitsAndBytesConfig(bnb_4bit_compute_dtype="int3")


def test_a_quantized_model_is_neither_cast_nor_saved(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("nemo"), load_in_8bit=True)
    for cast in (model.half, model.float, model.bfloat16, lambda: model.to(torch.float16)):
        with pytest.raises(RequestError, match="cannot be cast"):
            cast()
    assert model.to("cpu") is model
    with pytest.raises(RequestError, match="cannot be saved"):
        model.save_pretrained(tmp_path)
