"""The models beside transformers' own: logits, greedy tokens, padding, losses, gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import VARIANTS, make_model

from ostro.errors import BackendError, RequestError
from ostro.transformers import AutoModel, AutoModelForCausalLM, DynamicCache

Pair = Callable[..., tuple[Any, Any]]
SOME = ("mistral-7b-v0.1", "nemo", "mixtral", "llama-3.1", "llama-3.2")


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def padded_batch(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 20, 15 and 7 tokens; the pad token also occurs in the text, so that only the mask tells."""
    ids = torch.randint(0, 101, (3, 20), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    for row, hidden in enumerate((0, 5, 13)):
        place = slice(0, hidden) if side == "left" else slice(20 - hidden, 20)
        ids[row, place], mask[row, place] = 0, 0
    return ids, mask


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash_attention_2"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits(pair: Pair, variant: str, attention: str, prompt: torch.Tensor) -> None:
    ours, theirs = pair(variant, attn_implementation=attention)
    with torch.no_grad():
        assert relative(ours(prompt).logits, theirs(prompt).logits) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_64_greedy_tokens(pair: Pair, variant: str, prompt: torch.Tensor) -> None:
    ours, theirs = pair(variant)
    expected = theirs.generate(prompt, max_new_tokens=64, min_new_tokens=64, do_sample=False, pad_token_id=0)
    assert ours.generate(prompt, max_new_tokens=64, min_new_tokens=64, do_sample=False).tolist() == expected.tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_of_a_left_padded_batch(pair: Pair, variant: str) -> None:
    ours, theirs = pair(variant)
    ids, mask = padded_batch("left")
    settings = {"attention_mask": mask, "max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    out = ours.generate(ids, **settings)
    assert out.tolist() == theirs.generate(ids, **settings).tolist()
    for row, hidden in zip(out, (0, 5, 13), strict=True):
        alone = ours.generate(row[None, hidden:20], max_new_tokens=40, do_sample=False)[0]
        assert row[hidden : hidden + len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash_attention_2"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", SOME)
def test_a_padded_row_has_the_logits_it_has_alone(pair: Pair, variant: str, side: str, attention: str) -> None:
    ours, _ = pair(variant, attn_implementation=attention)
    ids, mask = padded_batch(side)
    with torch.no_grad():
        together = ours(ids, attention_mask=mask).logits
        assert together.isfinite().all()
        for row in range(3):
            shown = mask[row].bool()
            assert relative(together[row, shown], ours(ids[row, shown][None]).logits[0]) <= 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
def test_hidden_states_and_attentions(pair: Pair, side: str) -> None:
    ours, theirs = pair("mistral-7b-v0.1", attn_implementation="eager")
    theirs.set_attn_implementation("eager")
    ids, mask = padded_batch(side)
    wanted = {"attention_mask": mask, "output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        a, b = ours(ids, **wanted), theirs(ids, **wanted)
    assert len(a.hidden_states) == len(b.hidden_states) == 4
    assert len(a.attentions) == len(b.attentions) == 3
    shown = mask.bool()
    for mine, other in zip(a.hidden_states, b.hidden_states, strict=True):
        assert relative(mine[shown], other[shown]) <= 1e-5
    for mine, other in zip(a.attentions, b.attentions, strict=True):
        assert relative(mine.transpose(1, 2)[shown], other.transpose(1, 2)[shown]) <= 1e-5


@pytest.mark.parametrize("variant", SOME)
def test_loss_and_gradients(pair: Pair, variant: str) -> None:
    ours, theirs = pair(variant)
    ids, mask = padded_batch("right")
    labels = ids.masked_fill(mask == 0, -100)
    losses = [model.train()(ids, attention_mask=mask, labels=labels).loss for model in (ours, theirs)]
    assert relative(losses[0], losses[1]) <= 1e-6
    for loss in losses:
        loss.backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if "block_sparse_moe" in name:
            continue  # fused in transformers' memory; test_mixtral_gradients
        assert parameter.grad is not None, name
        assert relative(parameter.grad, reference[name].grad) <= 1e-4, name


def test_mixtral_gradients(pair: Pair, prompt: torch.Tensor) -> None:
    ours, theirs = pair("mixtral")
    for model in (ours, theirs):
        model(prompt, labels=prompt).loss.backward()
    for mine, other in zip(ours.model.layers, theirs.model.layers, strict=True):
        experts = mine.block_sparse_moe.experts
        grads = [[getattr(expert, w).weight.grad for expert in experts] for w in ("w1", "w3", "w2")]
        filled = [
            torch.stack([torch.zeros_like(e.weight) if g is None else g for g, e in zip(side, like, strict=True)])
            for side, like in zip(grads, [[getattr(e, w) for e in experts] for w in ("w1", "w3", "w2")], strict=True)
        ]
        assert relative(torch.cat(filled[:2], dim=1), other.mlp.experts.gate_up_proj.grad) <= 1e-4
        assert relative(filled[2], other.mlp.experts.down_proj.grad) <= 1e-4
        assert relative(mine.block_sparse_moe.gate.weight.grad, other.mlp.gate.weight.grad) <= 1e-4


@pytest.mark.parametrize("variant", ["mistral-7b-v0.1", "mixtral"])
def test_gradient_checkpointing_changes_nothing(pair: Pair, variant: str, prompt: torch.Tensor) -> None:
    ours, _ = pair(variant)
    ours.train()
    ours(prompt, labels=prompt).loss.backward()
    plain = {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}
    ours.zero_grad()
    ours.gradient_checkpointing_enable()
    assert ours.is_gradient_checkpointing
    output = ours(prompt, labels=prompt)
    assert output.past_key_values is None
    output.loss.backward()
    assert plain
    for name, parameter in ours.named_parameters():
        assert parameter.grad is None or torch.equal(parameter.grad, plain[name]), name


def test_checkpointing_keeps_fewer_activations(pair: Pair, prompt: torch.Tensor) -> None:
    ours, _ = pair("nemo")
    ours.train()

    def saved_bytes() -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            ours(prompt, use_cache=False)
        return total

    plain = saved_bytes()
    ours.gradient_checkpointing_enable()
    assert saved_bytes() < plain / 2


@pytest.mark.parametrize("variant", ["mistral-7b-v0.1", "nemo", "llama-3.1"])
def test_cached_steps_and_chunks_equal_one_pass(pair: Pair, variant: str, prompt: torch.Tensor) -> None:
    ours, _ = pair(variant)
    with torch.no_grad():
        whole = ours(prompt, use_cache=False).logits
        for sizes in ([1] * 40, [7, 1, 20, 1, 11], [39, 1]):
            cache, parts = None, []
            for chunk in prompt.split(sizes, dim=1):
                output = ours(chunk, past_key_values=cache)
                cache = output.past_key_values
                parts.append(output.logits)
            assert cache.get_seq_length() == 40
            assert relative(torch.cat(parts, dim=1), whole) <= 1e-5


def test_the_cache_of_a_windowed_model_stays_flat(pair: Pair) -> None:
    ours, _ = pair("mistral-7b-v0.1")
    sizes = set()
    with torch.no_grad():
        cache = ours(torch.ones(1, 200, dtype=torch.long)).past_key_values
        for _ in range(30):
            ours(torch.ones(1, 1, dtype=torch.long), past_key_values=cache)
            sizes.add(sum(side.untyped_storage().nbytes() for layer in cache for side in layer))
    assert cache.get_seq_length() == 230
    assert sizes == {cache.nbytes}
    assert cache[0][0].shape == (1, 2, 8, 8)  # window 9: the next token sees itself and 8 more


def test_a_cache_without_a_config_keeps_everything_and_agrees(pair: Pair, prompt: torch.Tensor) -> None:
    ours, _ = pair("mistral-7b-v0.1")
    with torch.no_grad():
        cache = DynamicCache()
        ours(prompt[:, :30], past_key_values=cache)
        assert cache[0][0].shape[2] == 30
        cache.crop(25)
        rest = ours(prompt[:, 25:], past_key_values=cache).logits
        assert relative(rest, ours(prompt).logits[:, 25:]) <= 1e-5
        pairs = [ours(prompt[:, :25], past_key_values=DynamicCache()).past_key_values[i] for i in range(3)]
        legacy = ours(prompt[:, 25:], past_key_values=pairs).logits
    assert relative(rest, legacy) <= 1e-5


def test_a_rolled_cache_cannot_be_cropped(pair: Pair, prompt: torch.Tensor) -> None:
    ours, _ = pair("mistral-7b-v0.1")
    with pytest.raises(RequestError, match=r"keeps the\s+last 8"), torch.no_grad():
        ours(prompt).past_key_values.crop(5)


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_a_long_windowed_prompt_in_chunks_equals_the_whole_mask(
    pair: Pair, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostro.transformers.attention._ROWS_AT_ONCE", 16)
    ours, _ = pair("mistral-7b-v0.1", attn_implementation=attention)
    eager, _ = pair("mistral-7b-v0.1", attn_implementation="eager")
    ids = torch.randint(3, 101, (2, 150), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, :70] = 0
    with torch.no_grad():
        for given in (None, mask):
            a, b = (model(ids, attention_mask=given).logits for model in (ours, eager))
            assert relative(a[0], b[0]) <= 1e-5
            assert relative(a[1, 70:], b[1, 70:]) <= 1e-5


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # PyTorch says why each kernel declines
def test_flash_attention_never_falls_back_in_silence(
    tiny_checkpoint: Callable[[str], Path], prompt: torch.Tensor
) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        tiny_checkpoint("nemo"), attention_dropout=0.5, attn_implementation="flash_attention_2"
    )
    with pytest.raises(BackendError, match='attn_implementation="sdpa"'):
        model.train()(prompt)  # the kernel of the CPU has no dropout


def test_packed_sequences_as_transformers_reads_them(pair: Pair) -> None:
    ours, theirs = pair("llama-3.1")
    ids = torch.randint(3, 101, (1, 12))
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]])
    with torch.no_grad():
        packed = ours(ids, position_ids=positions).logits
        assert relative(packed, theirs(ids, position_ids=positions, use_cache=False).logits) <= 1e-5
        assert relative(packed[:, 5:8], ours(ids[:, 5:8]).logits) <= 1e-5


def test_logits_to_keep_embeddings_and_tuples(pair: Pair, prompt: torch.Tensor) -> None:
    ours, _ = pair("llama-3.2")
    with torch.no_grad():
        logits = ours(prompt).logits
        assert relative(ours(prompt, logits_to_keep=1).logits, logits[:, -1:]) <= 1e-5
        picked = ours(prompt, logits_to_keep=torch.tensor([3, 5])).logits
        assert relative(picked, logits[:, [3, 5]]) <= 1e-6
        assert torch.equal(ours(inputs_embeds=ours.get_input_embeddings()(prompt)).logits, logits)
        output = ours(prompt, labels=prompt, return_dict=False)
    assert isinstance(output, tuple)
    assert output[0].dim() == 0
    assert torch.equal(output[1], logits)


def test_an_output_is_read_by_name_key_and_place(pair: Pair, prompt: torch.Tensor) -> None:
    ours, _ = pair("llama-3.2")
    with torch.no_grad():
        output = ours(prompt)
    assert output[0] is output.logits is output["logits"]
    assert output.keys() == ["logits", "past_key_values"]
    assert output.loss is None
    assert "loss" not in output
    assert output.get("loss", 3) == 3
    with pytest.raises(KeyError):
        output["loss"]


def test_num_items_in_batch_divides_the_sum(pair: Pair, prompt: torch.Tensor) -> None:
    ours, theirs = pair("nemo")
    with torch.no_grad():
        a = ours(prompt, labels=prompt, num_items_in_batch=100).loss
        b = theirs(prompt, labels=prompt, num_items_in_batch=100).loss
    assert relative(a, b) <= 1e-6


@pytest.mark.parametrize("variant", ["mistral-7b-v0.1", "mixtral", "llama-3.2"])
def test_the_bare_decoder(tiny_checkpoint: Callable[[str], Path], variant: str, prompt: torch.Tensor) -> None:
    ours = AutoModel.from_pretrained(tiny_checkpoint(variant))
    with torch.no_grad():
        hidden = ours(prompt).last_hidden_state
        assert relative(hidden, make_model(variant).model(prompt).last_hidden_state) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_half_precision(pair: Pair, dtype: torch.dtype, attention: str, prompt: torch.Tensor) -> None:
    exact, _ = pair("nemo")
    half, _ = pair("nemo", dtype=dtype, attn_implementation=attention)
    with torch.no_grad():
        logits = half(prompt).logits
        assert logits.dtype == dtype
        assert relative(logits.float(), exact(prompt).logits) <= (0.02 if dtype == torch.float16 else 0.1)


def test_attention_dropout_acts_in_training_alone(tiny_checkpoint: Callable[[str], Path], prompt: torch.Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("nemo"), attention_dropout=0.5)
    with torch.no_grad():
        assert torch.equal(model(prompt).logits, model(prompt).logits)
        model.train()
        assert not torch.equal(model(prompt).logits, model(prompt).logits)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "either input_ids"),
        ({"input_ids": torch.ones(3, dtype=torch.long)}, r"\(B, T\)"),
        ({"input_ids": torch.full((1, 3), 101)}, "101; ids are 0 .. 100"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "attention_mask": torch.ones(1, 4)}, r"\(1, 3\)"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "position_ids": torch.ones(3)}, "position_ids must"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "past_key_values": "x"}, "DynamicCache"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "output_attentions": True}, "eager"),
        ({"inputs_embeds": torch.ones(1, 3, 5)}, r"\(B, T, 32\)"),
        ({"input_ids": torch.ones(1, 3, dtype=torch.long), "labels": torch.ones(1, 2).long()}, "labels must"),
    ],
)
def test_wrong_arguments_are_refused_by_name(pair: Pair, arguments: dict[str, Any], match: str) -> None:
    ours, _ = pair("llama-3.2")
    with pytest.raises(RequestError, match=match):
        ours(**arguments)
