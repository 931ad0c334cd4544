"""The same model from every form gives the same tensors; anything incomplete, surplus or misshapen is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoint_forms import (
    Arrays,
    config_json,
    gguf_tensors,
    hf_tensors,
    mixtral_json,
    native_tensors,
    params_json,
    write_hf,
    write_model_gguf,
    write_native,
    write_safetensors,
    write_shards,
)
from gguf_writer import random_blocks, write_gguf, write_split_gguf
from tiny import VARIANTS

from ostro.checkpoint.names import expected_tensors
from ostro.checkpoint.open import Checkpoint, open_checkpoint
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.config import FrequencyFactors
from ostro.errors import CheckpointError, ModelNotFoundError

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "models" / "stories260K"


def assert_same(checkpoint: Checkpoint, tensors: Arrays) -> None:
    assert set(checkpoint.tensors) == set(tensors)
    assert len(checkpoint.tensors) == len(tensors)
    for name, expected in tensors.items():
        found = checkpoint.tensors[name]
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, expected), name
        assert checkpoint.tensors.shapes[name] == found.shape


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_that_transformers_writes(variant: str, tiny_checkpoint: Callable[[str], Path]) -> None:
    from safetensors.numpy import load_file

    folder = tiny_checkpoint(variant)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.form == "hf"
    assert checkpoint.folder == folder
    assert checkpoint.gguf_metadata is None
    assert checkpoint.files == (folder / "model.safetensors",)
    assert_same(checkpoint, load_file(folder / "model.safetensors"))
    assert checkpoint.tensors.shapes == expected_tensors(checkpoint.config)


@pytest.mark.parametrize("make", [config_json, mixtral_json], ids=["mistral", "mixtral"])
@pytest.mark.parametrize("fused", [False, True])
def test_native_and_gguf_hold_the_same_model(tmp_path: Path, make: Callable[[], dict[str, Any]], fused: bool) -> None:
    config = make()
    tensors = hf_tensors(config)
    hf = open_checkpoint(write_hf(tmp_path / "hf", config, tensors))
    native = open_checkpoint(
        write_native(tmp_path / "native", params_json(config), native_tensors(tensors, 4, fused=fused))
    )
    gguf_path = write_model_gguf(tmp_path / "model.gguf", config, gguf_tensors(tensors, 4, fused=fused))
    gguf = open_checkpoint(gguf_path)
    for checkpoint, form in ((hf, "hf"), (native, "native"), (gguf, "gguf")):
        assert checkpoint.form == form
        assert_same(checkpoint, tensors)
    assert (gguf.folder, gguf.files) == (None, (gguf_path,))
    assert gguf.gguf_metadata is not None
    numbers = [
        name for name in hf.config.__slots__ if name not in ("family", "bos_token_id", "eos_token_ids", "torch_dtype")
    ]
    for name in numbers:
        assert getattr(hf.config, name) == getattr(native.config, name) == getattr(gguf.config, name), name
    assert [c.config.family for c in (hf, native)] == [config["model_type"]] * 2


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
def test_stories_has_the_same_tensors_in_its_three_forms() -> None:
    hf, native, gguf = (open_checkpoint(STORIES / name) for name in ("hf", "native", "stories260K.gguf"))
    assert (hf.form, native.form, gguf.form) == ("hf", "native", "gguf")
    for name in hf.tensors:
        assert np.array_equal(hf.tensors[name], native.tensors[name])
        assert np.array_equal(hf.tensors[name], gguf.tensors[name])
    # The native and GGUF files hold the output matrix that hf/ ties to the embeddings.
    assert set(native.tensors) - set(hf.tensors) == {"lm_head.weight"}
    assert np.array_equal(native.tensors["lm_head.weight"], hf.tensors["model.embed_tokens.weight"])


def test_packed_rows_are_permuted_without_unpacking(tmp_path: Path) -> None:
    config = config_json(hidden_size=32, head_dim=16)
    tensors = hf_tensors(config)
    stored: dict[str, Any] = dict(gguf_tensors(tensors, 16))
    blocks = random_blocks("Q8_0", (32, 32))
    stored["blk.0.attn_q.weight"] = ("Q8_0", (32, 32), blocks)
    checkpoint = open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, stored))
    found = checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(found, QuantizedTensor)
    order = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]
    assert np.array_equal(found.blocks, blocks[order + [16 + i for i in order]])


def test_packed_experts_are_cut_from_their_stack(tmp_path: Path) -> None:
    config = mixtral_json() | {"hidden_size": 32, "head_dim": 16, "intermediate_size": 64}
    stored: dict[str, Any] = dict(gguf_tensors(hf_tensors(config), 16))
    blocks = random_blocks("Q4_0", (3, 64, 32))
    stored["blk.1.ffn_gate_exps.weight"] = ("Q4_0", (3, 64, 32), blocks)
    checkpoint = open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, stored))
    found = checkpoint.tensors["model.layers.1.block_sparse_moe.experts.2.w1.weight"]
    assert isinstance(found, QuantizedTensor)
    assert found.shape == (64, 32)
    assert np.array_equal(found.blocks, blocks[128:])


def test_gguf_in_parts_and_in_a_folder(tmp_path: Path) -> None:
    from checkpoint_forms import gguf_metadata

    config = config_json()
    tensors = hf_tensors(config)
    first = write_split_gguf(tmp_path / "m.gguf", gguf_metadata(config), gguf_tensors(tensors, 4), 3)
    assert_same(open_checkpoint(first), tensors)
    by_folder = open_checkpoint(tmp_path)
    assert_same(by_folder, tensors)
    assert len(by_folder.files) == 3
    write_model_gguf(tmp_path / "other.gguf", config, gguf_tensors(tensors, 4))
    with pytest.raises(CheckpointError, match=r"several GGUF files \(m-00001-of-00003.gguf, other.gguf\)"):
        open_checkpoint(tmp_path)


def test_rope_freqs_become_part_of_the_config(tmp_path: Path) -> None:
    config = config_json()
    stored = gguf_tensors(hf_tensors(config), 4) | {"rope_freqs.weight": np.array([1.0, 8.0], np.float32)}
    checkpoint = open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, stored))
    assert checkpoint.config.rope_scaling == FrequencyFactors((1.0, 8.0))
    assert checkpoint.ignored == ("rope_freqs.weight",)


def test_tied_embeddings(tmp_path: Path) -> None:
    config = config_json(tie_word_embeddings=True)
    tensors = hf_tensors(config)
    assert_same(open_checkpoint(write_hf(tmp_path / "hf", config, tensors)), tensors)
    gguf = open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, gguf_tensors(tensors, 4)))
    assert gguf.config.tie_word_embeddings
    assert_same(gguf, tensors)
    native = write_native(tmp_path / "n", params_json(config, tied_embeddings=True), native_tensors(tensors, 4))
    assert_same(open_checkpoint(native), tensors)


def test_a_copy_of_tied_embeddings_is_left_alone_and_another_matrix_refused(tmp_path: Path) -> None:
    config = config_json(tie_word_embeddings=True)
    tensors = hf_tensors(config)
    copy = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    checkpoint = open_checkpoint(write_hf(tmp_path / "copy", config, copy))
    assert checkpoint.ignored == ("lm_head.weight",)
    assert_same(checkpoint, tensors)
    other = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}
    with pytest.raises(CheckpointError, match=r"tensor lm_head.weight differs from the embeddings.*to false"):
        open_checkpoint(write_hf(tmp_path / "other", config, other))
    fewer = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"][:-1]}
    with pytest.raises(CheckpointError, match=r"tensor lm_head\.weight differs"):
        open_checkpoint(write_hf(tmp_path / "fewer", config, fewer))


def test_tensors_that_hold_nothing_new_are_listed(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    freqs = {"model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    checkpoint = open_checkpoint(write_hf(tmp_path / "hf", config, tensors | freqs))
    assert checkpoint.ignored == tuple(freqs)
    assert_same(checkpoint, tensors)
    native = native_tensors(tensors, 4) | {"rope.freqs": np.ones(2, np.float32)}
    assert open_checkpoint(write_native(tmp_path / "n", params_json(config), native)).ignored == ("rope.freqs",)


def missing_one(t: Arrays) -> Arrays:
    return {name: a for name, a in t.items() if name != "model.layers.1.mlp.up_proj.weight"}


def misshapen(t: Arrays) -> Arrays:
    return t | {"model.layers.0.self_attn.k_proj.weight": np.zeros((8, 8), np.float32)}


def transposed(t: Arrays) -> Arrays:
    return t | {"model.layers.0.mlp.down_proj.weight": np.zeros((12, 8), np.float32)}


def surplus(t: Arrays) -> Arrays:
    return t | {"model.layers.0.self_attn.q_proj.bias": np.zeros(8, np.float32)}


def another_layer(t: Arrays) -> Arrays:
    return t | {"model.layers.2.input_layernorm.weight": np.zeros(8, np.float32)}


def wrong_type(t: Arrays) -> Arrays:
    return t | {"model.norm.weight": np.zeros(8, np.float64)}


def no_head(t: Arrays) -> Arrays:
    return {name: a for name, a in t.items() if name != "lm_head.weight"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing_one, r"model\.safetensors: tensor model\.layers\.1\.mlp\.up_proj\.weight is missing; 21 are needed"),
        (misshapen, r"tensor model\.layers\.0\.self_attn\.k_proj\.weight has the shape \(8, 8\).*asks for \(4, 8\)"),
        (transposed, r"down_proj\.weight has the shape \(12, 8\).*asks for \(8, 12\)"),
        (
            surplus,
            r"model\.safetensors: the model of this config has no tensor model\.layers\.0\.self_attn\.q_proj\.bias",
        ),
        (another_layer, r"has no tensor model\.layers\.2\.input_layernorm\.weight"),
        (wrong_type, r"model\.safetensors: tensor model\.norm\.weight is stored as F64"),
        (no_head, r"tensor lm_head\.weight is missing.*tie_word_embeddings"),
    ],
)
def test_what_does_not_fit_the_config_is_named(
    tmp_path: Path, change: Callable[[Arrays], Arrays], message: str
) -> None:
    config = config_json()
    folder = write_hf(tmp_path / "hf", config, change(hf_tensors(config)))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_gguf_and_native_name_file_and_tensor_too(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    stored = gguf_tensors(tensors, 4)
    with pytest.raises(CheckpointError, match=r"m\.gguf: tensor model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, gguf_tensors(missing_one(tensors), 4)))
    biased = stored | {"blk.0.attn_q.bias": np.zeros(8, np.float32)}
    with pytest.raises(CheckpointError, match=r"b\.gguf: the model of this config has no tensor blk\.0\.attn_q\.bias"):
        open_checkpoint(write_model_gguf(tmp_path / "b.gguf", config, biased))
    with pytest.raises(
        CheckpointError, match=r"consolidated\.safetensors: tensor layers\.0\.attention\.wk\.weight has"
    ):
        open_checkpoint(write_native(tmp_path / "n", params_json(config), native_tensors(misshapen(tensors), 4)))


def test_a_stack_of_the_wrong_number_of_experts(tmp_path: Path) -> None:
    config = mixtral_json()
    stored = gguf_tensors(hf_tensors(config), 4)
    stored["blk.0.ffn_up_exps.weight"] = stored["blk.0.ffn_up_exps.weight"][:2]
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_up_exps\.weight has the shape \(2, 12, 8\)"):
        open_checkpoint(write_model_gguf(tmp_path / "m.gguf", config, stored))
    native = native_tensors(hf_tensors(config), 4, fused=True)
    native["layers.0.block_sparse_moe.w3"] = native["layers.0.block_sparse_moe.w3"][:-1]
    with pytest.raises(CheckpointError, match=r"block_sparse_moe\.w3 has the shape \(35, 8\)"):
        open_checkpoint(write_native(tmp_path / "n", params_json(config), native))


def test_a_tensor_under_two_names(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    twice = tensors | {"norm.weight": tensors["model.norm.weight"]}
    with pytest.raises(CheckpointError, match=r"norm\.weight holds too"):
        open_checkpoint(write_hf(tmp_path / "hf", config, twice))


def test_a_classifier_and_a_bare_model(tmp_path: Path) -> None:
    config = config_json(architectures=["MistralForSequenceClassification"])
    tensors = no_head(hf_tensors(config))
    score = {"score.weight": np.ones((3, 8), np.float32)}
    folder = write_hf(tmp_path / "classifier", config, tensors | score)
    with pytest.raises(CheckpointError, match=r"has no tensor score\.weight"):
        open_checkpoint(folder)
    shapes = {"score.weight": (3, 8), "score.bias": (3,)}
    assert_same(open_checkpoint(folder, extra_tensors=shapes, lm_head=False), tensors | score)
    with pytest.raises(CheckpointError, match=r"score\.weight has the shape \(3, 8\).*asks for \(2, 8\)"):
        open_checkpoint(folder, extra_tensors={"score.weight": (2, 8)}, lm_head=False)
    bare = {name.removeprefix("model."): a for name, a in tensors.items()}
    assert_same(open_checkpoint(write_hf(tmp_path / "bare", config, bare), lm_head=False), tensors)
    whole = write_hf(tmp_path / "whole", config, hf_tensors(config))
    checkpoint = open_checkpoint(whole, lm_head=False)
    assert checkpoint.ignored == ("lm_head.weight",)
    assert_same(checkpoint, tensors)


def test_bare_models_that_transformers_writes(tmp_path: Path) -> None:
    from tiny import make_model

    make_model("llama-3.2").model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path, lm_head=False)
    assert set(checkpoint.tensors) == set(expected_tensors(checkpoint.config, lm_head=False))


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="has no weights"):
        open_checkpoint(tmp_path)
    single = write_safetensors(tmp_path / "model.safetensors", {"w": np.ones(2, np.float32)})
    with pytest.raises(CheckpointError, match=r"is no GGUF file.*give"):
        open_checkpoint(single)
    with pytest.raises(CheckpointError, match=r"has weights but no config\.json"):
        open_checkpoint(tmp_path)


def test_a_gguf_is_known_by_its_data(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    blob = write_model_gguf(tmp_path / "sha256-0123", config, gguf_tensors(tensors, 4))
    assert_same(open_checkpoint(blob), tensors)
    (tmp_path / "not.gguf").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"not\.gguf"):
        open_checkpoint(tmp_path / "not.gguf")


def test_bfloat16_weights_keep_their_type(tmp_path: Path) -> None:
    config = config_json()
    tensors = {name: a.astype(ml_dtypes.bfloat16) for name, a in hf_tensors(config).items()}
    path = write_gguf(tmp_path / "m.gguf", _metadata(config), gguf_tensors(tensors, 4))
    found = open_checkpoint(path).tensors["model.layers.1.self_attn.q_proj.weight"]
    assert isinstance(found, np.ndarray)
    assert found.dtype == ml_dtypes.bfloat16
    assert np.array_equal(found, tensors["model.layers.1.self_attn.q_proj.weight"])


def _metadata(config: dict[str, Any]) -> dict[str, Any]:
    from checkpoint_forms import gguf_metadata

    return gguf_metadata(config)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("text", [b"", b"[]", b'{"a": 1', b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_damaged_json_names_its_file(tmp_path: Path, name: str, text: bytes) -> None:
    config = config_json()
    folder = write_hf(tmp_path / "hf", config, hf_tensors(config))
    (folder / name).write_bytes(text)
    with pytest.raises(CheckpointError, match=rf"hf/{name}"):
        open_checkpoint(folder)


def test_generation_config_gives_the_ids_that_end_text(tmp_path: Path) -> None:
    config = config_json()
    folder = write_hf(tmp_path / "hf", config, hf_tensors(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 2, 8], "temperature": 0.6}))
    assert open_checkpoint(folder).config.eos_token_ids == (9, 2, 8)


def test_sharded_model_with_native_set_beside_it(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    write_shards(tmp_path, tensors, count=3)
    (tmp_path / "config.json").write_text(json.dumps(config))
    # A broken native set shows that it is not even opened.
    (tmp_path / "params.json").write_text("{")
    (tmp_path / "consolidated.safetensors").write_bytes(b"broken")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.form == "hf"
    assert len(checkpoint.files) == 3
    assert_same(checkpoint, tensors)
