"""`merge`: the merged model is the adapter over its base, and no other base is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_models import write_packed, write_source
from tiny import save_tiny
from tiny_adapters import EVERYTHING, write_random_adapter

from ostro import LLM
from ostro.checkpoint.adapter import read_adapter
from ostro.checkpoint.open import open_checkpoint
from ostro.errors import CheckpointError, RequestError
from ostro.finetune import merge as merging
from ostro.finetune.merge import merge

PROMPT = [1, 5, 9, 30, 44, 3, 80, 12, 14, 17, 19]


def logits(folder: Path, adapters: dict[str, Any] | None = None) -> np.ndarray[Any, Any]:
    llm = LLM(folder, backend="reference", adapters=adapters, kv_dtype="float32")
    return llm.with_adapter("x" if adapters else None).logits(PROMPT)


@pytest.mark.parametrize("variant", ["mistral-7b-v0.1", "mixtral", "llama-3.2"])
def test_merged_is_unmerged(variant: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny_checkpoint(variant)
    whole = () if variant == "llama-3.2" else ("embed_tokens",)
    adapter = write_random_adapter(tmp_path / "adapter", base, EVERYTHING, whole=whole)
    steps = []
    merged = merge(adapter, tmp_path / "merged", progress=steps.append)
    unmerged = logits(base, {"x": adapter})
    assert np.abs(logits(merged.path) - unmerged).max() < 1e-4 * np.abs(unmerged).max()
    assert np.abs(logits(base) - unmerged).max() > 0.1
    assert merged.num_changed == len(read_adapter(adapter).pairs) + len(whole)
    assert (merged.dtype, merged.is_known_base, merged.unpacked_from) == ("float32", True, None)
    assert merged.rounding_error < 1e-6
    assert steps[-1].done == steps[-1].total == merged.nbytes
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_transformers_reads_it(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tiny_checkpoint("mistral-7b-v0.3")
    adapter = write_random_adapter(tmp_path / "adapter", base)
    merge(adapter, tmp_path / "merged")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        found = theirs(torch.tensor([PROMPT])).logits[0].numpy()
    assert np.abs(found - logits(base, {"x": adapter})).max() < 1e-4


def test_types(tmp_path: Path) -> None:
    base = tmp_path / "base"
    from tiny import make_model

    make_model("mistral-7b-v0.3").to(torch.bfloat16).save_pretrained(base)
    adapter = write_random_adapter(tmp_path / "adapter", base)
    kept, wide = merge(adapter, tmp_path / "kept"), merge(adapter, tmp_path / "wide", dtype="float32")
    assert (kept.dtype, wide.dtype) == ("bfloat16", "float32")
    assert wide.nbytes == 2 * kept.nbytes - 2 * 7 * 32  # the norms, 3 * 2 + 1 of 32 numbers, are bfloat16 in both
    assert 1e-4 < kept.rounding_error < 0.05
    assert wide.rounding_error < 1e-6
    assert json.loads((wide.path / "config.json").read_text())["dtype"] == "float32"
    assert np.abs(logits(wide.path) - logits(base, {"x": adapter})).max() < 1e-3


@pytest.mark.parametrize(("bits", "double"), [("4bit", False), ("4bit", True), ("8bit", False)])
def test_the_quantized_base_that_the_adapter_saw(
    bits: str, double: bool, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    from ostro.transformers import AutoModelForCausalLM, BitsAndBytesConfig, LoraConfig, apply_lora, save_adapter

    base = tiny_checkpoint("mistral-7b-v0.3")
    config = BitsAndBytesConfig(
        load_in_4bit=bits == "4bit", load_in_8bit=bits == "8bit", bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=config)
    apply_lora(model, LoraConfig(r=4, init_lora_weights=False))
    save_adapter(model, tmp_path / "adapter")
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT])).logits[0].numpy()
    merged = merge(tmp_path / "adapter", tmp_path / "merged")
    assert merged.unpacked_from == {("4bit", False): "nf4", ("4bit", True): "nf4 with double quantization"}.get(
        (bits, double), "8-bit"
    )
    assert np.abs(logits(merged.path) - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(logits(base, {"x": tmp_path / "adapter"}) - expected).max() > 1e-2  # the float base is another one


@pytest.mark.parametrize("form", ["native", "gguf", "packed"])
def test_forms_of_the_base(form: str, tmp_path: Path) -> None:
    if form == "packed":
        base = write_packed(tmp_path / "packed", write_source(tmp_path / "source")).path
    else:
        base = write_source(tmp_path / "source", form=form)
    adapter = write_random_adapter(tmp_path / "adapter", base, EVERYTHING)
    merged = merge(adapter, tmp_path / "merged", dtype="float32")
    pairs, sums = read_adapter(adapter).pairs, open_checkpoint(merged.path).tensors
    for name, tensor in open_checkpoint(base).tensors.items():
        expected = (tensor if isinstance(tensor, np.ndarray) else tensor.dequantize()).astype(np.float32)
        pair = pairs.get(name.removesuffix(".weight"))
        assert np.abs(sums[name] - (expected if pair is None else expected + pair.delta())).max() < 1e-6, name


def test_shards(tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_SHARD_BYTES", 20_000)
    base = tiny_checkpoint("mistral-7b-v0.3")
    adapter = write_random_adapter(tmp_path / "adapter", base)
    merged = merge(adapter, tmp_path / "merged")
    assert len(list(merged.path.glob("model-*-of-*.safetensors"))) > 2
    unmerged = logits(base, {"x": adapter})
    assert np.abs(logits(merged.path) - unmerged).max() < 1e-4 * np.abs(unmerged).max()


def test_another_base_is_refused(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny_checkpoint("mistral-7b-v0.3")
    adapter = write_random_adapter(tmp_path / "adapter", base)
    other = save_tiny("mistral-7b-v0.3", tmp_path / "other", initializer_range=0.2)
    with pytest.raises(CheckpointError, match="other weights than those that the adapter"):
        merge(adapter, tmp_path / "merged", base=other)
    assert not (tmp_path / "merged").exists()
    unsaid = write_random_adapter(tmp_path / "unsaid", base, states_base=False)
    assert merge(unsaid, tmp_path / "merged", base=other).is_known_base is False


def test_a_copy_of_the_base_is_the_base(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny_checkpoint("mistral-7b-v0.3")
    adapter = write_random_adapter(tmp_path / "adapter", base)
    assert merge(adapter, tmp_path / "merged", base=shutil.copytree(base, tmp_path / "copy")).is_known_base


def test_the_output_folder(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny_checkpoint("mistral-7b-v0.3")
    adapter = write_random_adapter(tmp_path / "adapter", base)
    with pytest.raises(RequestError, match="exists already") as caught:
        merge(adapter, base)
    assert caught.value.param == "out"
    (tmp_path / "empty").mkdir()
    assert merge(adapter, tmp_path / "empty").path.is_dir()


def test_an_interrupted_merge_leaves_nothing(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = write_random_adapter(tmp_path / "adapter", tiny_checkpoint("mistral-7b-v0.3"))

    def interrupt(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(adapter, tmp_path / "merged", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_classifier(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    from ostro.transformers import AutoModelForSequenceClassification, LoraConfig, apply_lora, save_adapter

    base = tiny_checkpoint("mistral-7b-v0.3")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    apply_lora(model, LoraConfig(init_lora_weights=False, modules_to_save=("score",)))
    save_adapter(model, tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.num_labels == 3
    with torch.no_grad():
        expected, found = (each(torch.tensor([PROMPT])).logits for each in (model, merged))
    assert (found - expected).abs().max() < 1e-4


def test_numbers_that_do_not_fit(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = write_random_adapter(tmp_path / "adapter", tiny_checkpoint("mistral-7b-v0.3"), lora_alpha=1e6)
    with pytest.raises(CheckpointError, match="float16 cannot hold"):
        merge(adapter, tmp_path / "merged", dtype="float16")
