"""LoRA as peft has it: the same losses in training, the same files, and refusals by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_model

from ostro.checkpoint.adapter import BASE_NAME, CONFIG_NAME
from ostro.errors import CheckpointError, RequestError
from ostro.transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    LoraConfig,
    adapter_state,
    apply_lora,
    disable_adapter,
    has_adapter,
    load_adapter,
    load_adapter_state,
    save_adapter,
)

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "patterns": {
        "r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": r".*\.(q_proj|gate_proj|down_proj)",
        "rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {"layers.1.*q_proj": 3},
        "modules_to_save": ["lm_head"],
    },
}  # fmt: skip
NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)


@pytest.fixture
def folder(tiny_checkpoint: Callable[[str], Path]) -> Path:
    return tiny_checkpoint("mistral-7b-v0.1")


def batches(count: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randint(3, 101, (2, 24), generator=generator)


def losses(model: Any, optimizer: Any, count: int = 20, *, same: bool = False) -> list[float]:
    """Of `count` steps, on other tokens each time or on the `same`."""
    model.train()
    found = []
    for ids in list(batches(1)) * count if same else batches(count):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
    return found


def adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def peft_state(model: Any) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return {name.removeprefix("base_model.model."): each for name, each in get_peft_model_state_dict(model).items()}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft calls it
@pytest.mark.parametrize("name", CONFIGS)
def test_training_is_that_of_peft(name: str, folder: Path, tmp_path: Path) -> None:
    import peft

    theirs = peft.get_peft_model(make_model("mistral-7b-v0.1"), peft.LoraConfig(**CONFIGS[name]))
    ours = AutoModelForCausalLM.from_pretrained(folder)
    modules = apply_lora(ours, LoraConfig(**CONFIGS[name]))
    state = peft_state(theirs)
    assert adapter_state(ours).keys() == state.keys()
    assert {re.sub(r"(\.lora_[AB])?\.weight$", "", key) for key in state} == set(modules)
    load_adapter_state(ours, state)
    own, other = losses(ours, adamw(ours)), losses(theirs, adamw(theirs))
    assert max(abs(a - b) for a, b in zip(own, other, strict=True)) < 1e-4
    assert len(set(own)) == 20

    ids = next(batches(1))
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        save_adapter(ours, tmp_path / "ours")
        again = peft.PeftModel.from_pretrained(make_model("mistral-7b-v0.1"), tmp_path / "ours").eval()
        assert (again(ids).logits - ours(ids).logits).abs().max() < 1e-4
        theirs.save_pretrained(tmp_path / "theirs")
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        load_adapter(loaded, tmp_path / "theirs")
        assert (loaded(ids).logits - theirs(ids).logits).abs().max() < 1e-4


def test_random_numbers_are_those_of_peft(folder: Path) -> None:
    """The distributions: the order in which the layers draw is each library's own."""
    for kind, std in ((True, 32**-0.5 / 3**0.5), ("gaussian", 1 / 64)):
        model = AutoModelForCausalLM.from_pretrained(folder)
        torch.manual_seed(0)
        apply_lora(model, LoraConfig(r=64, target_modules=("q_proj",), init_lora_weights=kind))
        state = adapter_state(model)
        a = torch.cat([each.detach().flatten() for name, each in state.items() if "lora_A" in name])
        assert abs(float(a.std()) / std - 1) < 0.05
        assert all(not each.any() for name, each in state.items() if "lora_B" in name)


def test_dropout_acts_in_training_alone(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    apply_lora(model, LoraConfig(lora_dropout=0.5, init_lora_weights=False))
    ids = next(batches(1))
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)
        model.train()
        assert not torch.equal(model(ids).logits, model(ids).logits)
        with disable_adapter(model):
            assert torch.equal(model(ids).logits, AutoModelForCausalLM.from_pretrained(folder)(ids).logits)


def test_disabled_it_is_the_base(folder: Path) -> None:
    model, ids = AutoModelForCausalLM.from_pretrained(folder), next(batches(1))
    before = model(ids).logits
    assert not has_adapter(model)
    apply_lora(model, LoraConfig(init_lora_weights=False, modules_to_save=("lm_head", "norm")))
    with torch.no_grad():
        for module in ("lm_head", "model.norm"):
            model.get_submodule(module).trained.weight += 0.5
        with disable_adapter(model):
            assert torch.equal(model(ids).logits, before)
        assert not torch.allclose(model(ids).logits, before)


def test_only_the_adapter_is_trained(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    apply_lora(model, LoraConfig(r=2, target_modules=("q_proj",)))
    frozen = {name: each.clone() for name, each in model.named_parameters() if not each.requires_grad}
    trained = {name: each.clone() for name, each in adapter_state(model).items()}
    assert model.num_parameters(only_trainable=True) == sum(each.numel() for each in trained.values()) == 3 * 4 * 32
    model.gradient_checkpointing_enable()
    losses(model, adamw(model), 3)
    assert all(torch.equal(each, frozen[name]) for name, each in model.named_parameters() if name in frozen)
    assert not any(torch.equal(each, trained[name]) for name, each in adapter_state(model).items())


def test_qlora(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=NF4)
    apply_lora(model, LoraConfig(r=4))
    own = losses(model, adamw(model), 8, same=True)
    assert own[-1] < own[0]
    model.eval()
    save_adapter(model, tmp_path / "adapter")
    stated = json.loads((tmp_path / "adapter" / BASE_NAME).read_text())["quantization"]
    assert (stated["bnb_4bit_quant_type"], stated["bnb_4bit_use_double_quant"]) == ("nf4", True)
    again = AutoModelForCausalLM.from_pretrained(folder, quantization_config=NF4)
    load_adapter(again, tmp_path / "adapter")
    ids = next(batches(1))
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_half_precision(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    apply_lora(model, LoraConfig(r=4))
    assert {each.dtype for each in adapter_state(model).values()} == {torch.float32}
    assert model(next(batches(1))).logits.dtype == torch.bfloat16
    own = losses(model, adamw(model), 8, same=True)
    assert own[-1] < own[0]


def test_going_on_with_an_adapter(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    apply_lora(model, LoraConfig(r=4))
    losses(model, adamw(model), 3)
    save_adapter(model, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(folder)
    load_adapter(again, tmp_path, is_trainable=True)
    assert losses(again, adamw(again), 3) == losses(model, adamw(model), 3)
    still = AutoModelForCausalLM.from_pretrained(folder)
    load_adapter(still, tmp_path)
    assert not any(each.requires_grad for each in still.parameters())


def test_a_classifier(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    apply_lora(model, LoraConfig(init_lora_weights=False, modules_to_save=("score",)))
    save_adapter(model, tmp_path)
    assert json.loads((tmp_path / CONFIG_NAME).read_text())["task_type"] == "SEQ_CLS"
    again = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    load_adapter(again, tmp_path)
    ids = next(batches(1))[:1]
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_bare_decoder(folder: Path, tmp_path: Path) -> None:
    """Its names lack a prefix, and its adapters fit a language model all the same."""
    model, whole = AutoModel.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    apply_lora(model, LoraConfig(init_lora_weights=False, modules_to_save=("norm",)))
    save_adapter(model, tmp_path)
    again = AutoModel.from_pretrained(folder)
    load_adapter(again, tmp_path)
    load_adapter(whole, tmp_path)
    ids = next(batches(1))
    assert torch.equal(again(ids).last_hidden_state, model(ids).last_hidden_state)
    assert torch.equal(whole.model(ids).last_hidden_state, model(ids).last_hidden_state)


def test_mixtral_experts(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("mixtral"))
    modules = apply_lora(model, LoraConfig(init_lora_weights=False))
    assert {name.rpartition(".")[2] for name in modules} == {"q_proj", "k_proj", "v_proj", "o_proj", "w1", "w2", "w3"}
    save_adapter(model, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("mixtral"))
    load_adapter(again, tmp_path)
    ids = next(batches(1))
    torch.testing.assert_close(
        again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4
    )  # sums of experts in any order


@pytest.mark.parametrize(
    ("config", "param", "said"),
    [
        ({"target_modules": ("w_proj",)}, "target_modules", "matches no module"),
        ({"target_modules": ("embed_tokens",)}, "target_modules", "for linear layers"),
        ({"modules_to_save": ("score",)}, "modules_to_save", "no module 'score'"),
        ({"target_modules": ("q_proj",), "modules_to_save": ("mlp",)}, "modules_to_save", "name those instead"),
        ({"init_lora_weights": "eva"}, "init_lora_weights", "training begins from"),
    ],
)
def test_refusals(folder: Path, config: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        apply_lora(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(**config))
    assert caught.value.param == param


def test_tied_embeddings(tiny_checkpoint: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("llama-3.2"))
    for config in ({"modules_to_save": ("embed_tokens",)}, {"target_modules": ("q_proj", "lm_head")}):
        with pytest.raises(RequestError, match="is tied to"):
            apply_lora(model, LoraConfig(**config))
    assert apply_lora(model, LoraConfig())


def test_what_an_adapted_model_refuses(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(RequestError, match="has no adapter"):
        save_adapter(model, tmp_path)
    apply_lora(model, LoraConfig(r=2))
    with pytest.raises(RequestError, match="has an adapter already"):
        apply_lora(model, LoraConfig(r=2))
    with pytest.raises(RequestError, match="save_adapter"):
        model.save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="another adapter"):
        load_adapter_state(model, {"x": torch.zeros(1)})
    save_adapter(model, tmp_path)
    other = AutoModelForCausalLM.from_pretrained(folder, num_hidden_layers=2)
    with pytest.raises(CheckpointError, match=r"layers\.2"):
        load_adapter(other, tmp_path)
