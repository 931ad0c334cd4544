"""What a sentence-transformers folder may say, and that all else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import save_tiny
from tiny_encoders import save_embedder, write_json

from ostro.embeddings import open_embedder
from ostro.embeddings.folder import read_recipe
from ostro.embeddings.known import published_prompts
from ostro.embeddings.open import is_embedding_model
from ostro.errors import CheckpointError, ConfigError, RequestError, TokenizerError, TokenizerNotFoundError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_embedder(tmp_path, num_hidden_layers=1)
    return tmp_path


def modules(folder: Path, *kinds: str) -> None:
    paths = ["", *(f"{place}_{kind.rpartition('.')[2]}" for place, kind in enumerate(kinds) if place)]
    full = [kind if "." in kind else f"sentence_transformers.models.{kind}" for kind in kinds]
    listed = [{"idx": 0, "name": "", "path": path, "type": kind} for path, kind in zip(paths, full, strict=True)]
    write_json(folder / "modules.json", listed)


def test_the_names_of_every_version(folder: Path) -> None:
    """Versions up to 5 and from 6 on name their classes differently, and pooling too."""
    recipe = read_recipe(folder)
    modules(
        folder,
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.base.modules.normalize.Normalize",
    )
    old = {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    write_json(folder / "1_Pooling" / "config.json", old)
    inputs = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    write_json(folder / "2_Normalize" / "config.json", inputs)
    written = {
        "transformer_task": "feature-extraction",
        "modality_config": {},
        "module_output_name": "token_embeddings",
    }
    write_json(folder / "sentence_bert_config.json", written)
    assert read_recipe(folder) == recipe


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["Transformer"], "Transformer without Pooling"),
        (["Transformer", "Normalize"], "Transformer without Pooling"),
        (["Transformer", "Pooling", "LayerNorm"], "LayerNorm at place 2"),
        (["Transformer", "Pooling", "Normalize", "Dense"], "Dense at place 3"),
        (["StaticEmbedding", "Pooling"], "Pooling at place 1"),
        (["CLIPModel"], "CLIPModel cannot be run"),
        (["custom_code.Transformer", "Pooling"], "code of the repository's own"),
    ],
)
def test_modules_that_cannot_be_run(kinds: list[str], message: str, folder: Path) -> None:
    modules(folder, *kinds)
    with pytest.raises(CheckpointError, match=message):
        read_recipe(folder)


@pytest.mark.parametrize("text", ["{}", "[]", "[3]", '[{"type": "x"}]', "nonsense", '[{"path": 3, "type": "x"}]'])
def test_a_damaged_list_of_modules(text: str, folder: Path) -> None:
    (folder / "modules.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        open_embedder(folder)


@pytest.mark.parametrize("path", ["../other", "/etc", "1_Pooling/../../x"])
def test_a_module_outside_of_the_folder(path: str, folder: Path) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[1]["path"] = path
    write_json(folder / "modules.json", listed)
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        read_recipe(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling_mode is 'median'"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "pooling_mode is 'nothing'"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "extra": 1}, "states extra = 1"),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "single tokens"),
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "max_seq_length must be a whole number"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length"),
        ("sentence_bert_config.json", {"surprise": True}, "surprise"),
        ("config_sentence_transformers.json", {"prompts": ["q"]}, "prompts must be an object"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "'q' is none of no prompts"),
    ],
)
def test_settings_that_cannot_be_honoured(file: str, content: Any, message: str, folder: Path) -> None:
    write_json(folder / file, content)
    with pytest.raises(ConfigError, match=message):
        read_recipe(folder)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, {}),
        ({"prompts": {"query": "Q ", "passage": "P "}}, {"query": "Q ", "document": "P ", "text": ""}),
        ({"prompts": {"corpus": "C ", "document": "D "}}, {"query": "", "document": "D ", "text": ""}),
        ({"prompts": {"s": "S "}, "default_prompt_name": "s"}, {"query": "S ", "document": "S ", "text": "S "}),
        ({"prompts": {"query": None, "document": None}}, {"query": "", "document": "", "text": ""}),
    ],
)
def test_prompts(stated: dict[str, Any], expected: dict[str, str], folder: Path) -> None:
    if stated:
        write_json(folder / "config_sentence_transformers.json", stated)
    assert read_recipe(folder).prompts == expected


def test_prompts_that_stay_out_of_the_pooling(folder: Path) -> None:
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    read_recipe(folder)
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "Q: "}})
    with pytest.raises(ConfigError, match="include_prompt false"):
        read_recipe(folder)


def test_published_prompts_where_the_files_are_silent(tmp_path: Path) -> None:
    folder = tmp_path / "multilingual-e5-small"
    save_embedder(folder, num_hidden_layers=1)
    embedder = open_embedder(folder)
    assert [embedder.prompt(each) for each in ("query", "document", "text")] == ["query: ", "passage: ", "query: "]
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "Q: "}})
    assert open_embedder(folder).prompt("query") == "Q: "
    assert published_prompts("BAAI/bge-base-en-v1.5")["query"].startswith("Represent this sentence")
    assert published_prompts("intfloat/multilingual-e5-large-instruct") == {}
    assert published_prompts("sentence-transformers/all-MiniLM-L6-v2") == {}


def test_lower_case_is_honoured(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", tokenizer)
    assert open_embedder(folder).tokenize("CAT") != open_embedder(folder).tokenize("cat")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": True})
    assert open_embedder(folder).tokenize("CAT") == open_embedder(folder).tokenize("cat")


def test_tokenizers_that_do_not_fit(folder: Path) -> None:
    path = folder / "tokenizer.json"
    good = json.loads(path.read_text())
    write_json(path, {**good, "model": {**good["model"], "vocab": {**good["model"]["vocab"], "x": 21, "y": 60}}})
    for number in range(30):
        good["model"]["vocab"][f"extra{number}"] = 21 + number
    write_json(path, good)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has 51 tokens, but the model's vocab_size is 40"):
        open_embedder(folder)
    path.write_text("{")
    with pytest.raises(TokenizerError, match="cannot be read"):
        open_embedder(folder)
    path.unlink()
    with pytest.raises(TokenizerNotFoundError, match=r"needs its tokenizer\.json"):
        open_embedder(folder)


def test_dense_modules_that_do_not_fit(tmp_path: Path) -> None:
    save_embedder(tmp_path, num_hidden_layers=1, extra=["Dense"])
    good = {"in_features": 24, "out_features": 5, "bias": False, "activation_function": "torch.nn.Tanh"}
    for changes, message in (
        ({"activation_function": "my.Own"}, "activation_function Own"),
        ({"use_residual": True}, "use_residual"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"more": 1}, "states more"),
    ):
        write_json(tmp_path / "2_Dense" / "config.json", {**good, **changes})
        with pytest.raises(ConfigError, match=message):
            open_embedder(tmp_path)
    save_file({"linear.weight": np.ones((5, 24), np.float32)}, tmp_path / "2_Dense" / "model.safetensors")
    for changes in ({"in_features": 12}, {"out_features": 6}, {"bias": True}):
        write_json(tmp_path / "2_Dense" / "config.json", {**good, **changes})
        with pytest.raises(CheckpointError, match="does not fit"):
            open_embedder(tmp_path)


def test_models_that_generate_are_no_embedding_models(tmp_path: Path) -> None:
    folder = save_tiny("mistral-7b-v0.3", tmp_path / "m")
    assert not is_embedding_model(folder)
    assert not is_embedding_model(folder / "config.json")
    with pytest.raises(RequestError, match="is no embedding model") as caught:
        open_embedder(folder)
    assert caught.value.param == "model"
    save_embedder(tmp_path / "e", num_hidden_layers=1)
    assert is_embedding_model(tmp_path / "e")
    (tmp_path / "e" / "modules.json").unlink()
    assert is_embedding_model(tmp_path / "e")
