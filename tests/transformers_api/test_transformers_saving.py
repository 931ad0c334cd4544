"""from_pretrained and save_pretrained: every form, both libraries, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny import VARIANTS, make_model

import ostro.transformers as ours
from ostro import LLM
from ostro.checkpoint.open import open_checkpoint
from ostro.errors import BackendError, CheckpointError, ConfigError, ModelNotFoundError, RequestError
from ostro.transformers import AutoConfig, AutoModelForCausalLM, MistralConfig, MistralForCausalLM

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "models" / "stories260K"


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_reads_what_we_write(
    variant: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path, prompt: torch.Tensor
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(variant))
    model.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        logits = model(prompt).logits
        assert torch.equal(logits, again(prompt).logits)
        assert (logits - theirs(prompt).logits).abs().max() <= 1e-5 * logits.abs().max()
    assert again.config == model.config
    assert open_checkpoint(tmp_path).config == open_checkpoint(tiny_checkpoint(variant)).config


def test_the_names_on_disk_are_those_of_transformers(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    for variant in ("mistral-7b-v0.1", "mixtral", "llama-3.2"):
        AutoModelForCausalLM.from_pretrained(tiny_checkpoint(variant)).save_pretrained(tmp_path)
        names = [set(open_checkpoint(folder).tensors) for folder in (tmp_path, tiny_checkpoint(variant))]
        assert names[0] == names[1]
        assert ("lm_head.weight" in names[0]) is (variant != "llama-3.2")


def test_shards_and_their_index(tiny_checkpoint: Callable[[str], Path], tmp_path: Path, prompt: torch.Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("mixtral"))
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 3
    assert shards[0].startswith("model-00001-of-")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(shards)
    for reader in (transformers.AutoModelForCausalLM, AutoModelForCausalLM):
        with torch.no_grad():
            again = reader.from_pretrained(tmp_path)(prompt).logits
            assert torch.allclose(again, model(prompt).logits, atol=1e-4)
    with pytest.raises(RequestError, match="max_shard_size"):
        model.save_pretrained(tmp_path, max_shard_size="big")
    with pytest.raises(RequestError, match="pickle"):
        model.save_pretrained(tmp_path, safe_serialization=False)


def test_a_bare_decoder_saved_by_transformers_and_by_us(tmp_path: Path, prompt: torch.Tensor) -> None:
    theirs = make_model("mistral-7b-v0.1").model
    theirs.save_pretrained(tmp_path / "theirs")
    model = ours.MistralModel.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    again = transformers.MistralModel.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        hidden = theirs(prompt).last_hidden_state
        assert torch.allclose(model(prompt).last_hidden_state, hidden, atol=1e-5)
        assert torch.allclose(again(prompt).last_hidden_state, hidden, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        MistralForCausalLM.from_pretrained(tmp_path / "theirs")


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
@pytest.mark.parametrize("form", ["hf", "native", "stories260K.gguf"])
def test_every_form_of_a_checkpoint(form: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(STORIES / form)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(STORIES / "hf")
    start = torch.tensor([[1]])
    settings = {"max_new_tokens": 60, "do_sample": False, "eos_token_id": 2}
    assert model.generate(start, **settings).tolist() == theirs.generate(start, **settings).tolist()
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.generate(start, **settings).tolist() == theirs.generate(start, **settings).tolist()


def test_the_dtype_is_the_files_unless_another_is_asked_for(tmp_path: Path) -> None:
    make_model("nemo").to(torch.bfloat16).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.dtype == torch.bfloat16
    for name in ("dtype", "torch_dtype"):
        for value in (torch.float32, "float32", "torch.float32"):
            assert AutoModelForCausalLM.from_pretrained(tmp_path, **{name: value}).dtype == torch.float32
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").config.dtype == "bfloat16"
    with pytest.raises(RequestError, match="one argument"):
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float16", torch_dtype="float32")
    with pytest.raises(BackendError, match="int8"):
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.int8)


def test_a_loaded_model_is_in_eval_mode_and_its_own(tiny_checkpoint: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("llama-3.2"))
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    before = np.asarray(open_checkpoint(tiny_checkpoint("llama-3.2")).tensors["model.norm.weight"]).copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    after = open_checkpoint(tiny_checkpoint("llama-3.2")).tensors["model.norm.weight"]
    assert np.array_equal(before, after)


def test_devices(tiny_checkpoint: Callable[[str], Path]) -> None:
    folder = tiny_checkpoint("llama-3.2")
    best = "cuda" if torch.cuda.is_available() else "cpu"
    for device_map, found in ((None, "cpu"), ("cpu", "cpu"), ({"": "cpu"}, "cpu"), ("auto", best)):
        assert AutoModelForCausalLM.from_pretrained(folder, device_map=device_map).device.type == found
    with pytest.raises(RequestError, match="balanced"):
        AutoModelForCausalLM.from_pretrained(folder, device_map="balanced")
    with pytest.raises(RequestError, match="one device"):
        AutoModelForCausalLM.from_pretrained(folder, device_map={"model": "cpu", "lm_head": "disk"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_with_what_is(tiny_checkpoint: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("llama-3.2"))
    for move in (lambda: model.to("cuda"), model.cuda, lambda: model.to(device="cuda:0"), lambda: model.to(0)):
        with pytest.raises(BackendError, match='Use "cpu"'):
            move()
    with pytest.raises(BackendError, match='Use "cpu"'):
        AutoModelForCausalLM.from_pretrained(tiny_checkpoint("llama-3.2"), device_map="cuda")
    with pytest.raises(BackendError, match='Use "cpu", or "auto"') as caught:
        LLM(tiny_checkpoint("llama-3.2"), backend="torch", device="cuda")
    assert "device_map" not in str(caught.value)  # LLM and the command line have no such argument


def test_the_device_auto_of_the_message_is_there_in_both_interfaces(tiny_checkpoint: Callable[[str], Path]) -> None:
    LLM(tiny_checkpoint("llama-3.2"), backend="torch", device="auto")
    assert AutoModelForCausalLM.from_pretrained(tiny_checkpoint("llama-3.2"), device_map="auto").device is not None


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"max_memory": {0: "1GB"}}, RequestError, "max_memory"),
        ({"foo": 1}, RequestError, "It takes: attn_implementation, .*use_safetensors, and the fields of its config"),
        ({"trust_remote_code": True}, RequestError, "runs no code"),
        ({"attn_implementation": "paged"}, RequestError, "sdpa, eager, flash_attention_2"),
        ({"revision": "main"}, RequestError, "revision"),
        ({"low_cpu_mem_usage": False}, RequestError, "low_cpu_mem_usage"),
        ({"hidden_size": 64}, CheckpointError, "shape"),
        ({"quantization_config": True}, RequestError, "quantization_config=quantization_config"),
        ({"load_in_4bit": True, "load_in_8bit": True}, RequestError, "choose one"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    arguments: dict[str, Any], error: type[Exception], match: str, tiny_checkpoint: Callable[[str], Path]
) -> None:
    with pytest.raises(error, match=match):
        AutoModelForCausalLM.from_pretrained(tiny_checkpoint("nemo"), **arguments)


def test_wrong_families_and_names(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Auto class"):
        MistralForCausalLM.from_pretrained(tiny_checkpoint("llama-3.1"))
    with pytest.raises(ConfigError, match="Auto class"):
        MistralConfig.from_pretrained(tiny_checkpoint("mixtral"))
    with pytest.raises(ModelNotFoundError):
        AutoModelForCausalLM.from_pretrained(tmp_path / "nothing")
    with pytest.raises(RequestError, match="from_pretrained loads"):
        MistralForCausalLM("mistralai/Mistral-7B-v0.1")  # type: ignore[arg-type]


def test_fields_of_the_config_may_be_replaced(tiny_checkpoint: Callable[[str], Path], prompt: torch.Tensor) -> None:
    folder = tiny_checkpoint("mistral-7b-v0.1")
    model = AutoModelForCausalLM.from_pretrained(folder, sliding_window=None, use_cache=False)
    with torch.no_grad():
        output = model(prompt)
        expected = make_model("mistral-7b-v0.1", sliding_window=None)(prompt).logits
    assert torch.allclose(output.logits, expected, atol=1e-4)
    assert output.past_key_values is None
    config = AutoConfig.from_pretrained(folder, sliding_window=None)
    assert AutoModelForCausalLM.from_pretrained(folder, config=config).config.sliding_window is None
