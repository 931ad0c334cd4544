"""The configuration that is read beside weights is the one that is read without looking at them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_forms import (
    config_json,
    gguf_tensors,
    hf_tensors,
    native_tensors,
    params_json,
    write_hf,
    write_model_gguf,
    write_native,
)

from ostro.checkpoint.open import find_gguf, folder_form, open_checkpoint, read_config
from ostro.cli.model_files import look_at
from ostro.errors import CheckpointError, ConfigError, ModelNotFoundError

# The two files of one folder state different contexts, so that it shows which of them was read.
HF, NATIVE = config_json(max_position_embeddings=64), params_json(config_json(), max_seq_len=128)
SOME = [kept for kept in itertools.product([False, True], repeat=4) if any(kept[2:])]


def make_folder(folder: Path, *, config: bool, params: bool, model: bool, consolidated: bool) -> Path:
    """A folder with these files of one model."""
    tensors = hf_tensors(HF)
    write_hf(folder, HF, tensors)
    write_native(folder, NATIVE, native_tensors(tensors, HF["head_dim"]))
    kept = {
        "config.json": config, "params.json": params, "model.safetensors": model,
        "consolidated.safetensors": consolidated,
    }  # fmt: skip
    for name, keep in kept.items():
        if not keep:
            (folder / name).unlink()
    return folder


def outcome(read: Callable[[], tuple[str, object]]) -> object:
    """What it returns, or the error's type and text."""
    try:
        return read()
    except CheckpointError as refusal:
        return type(refusal), str(refusal)


@pytest.mark.parametrize(("config", "params", "model", "consolidated"), SOME)
def test_whatever_else_a_folder_holds(
    tmp_path: Path, config: bool, params: bool, model: bool, consolidated: bool
) -> None:
    """Every choice of configurations and weights: the same numbers, or the same refusal."""
    folder = make_folder(tmp_path / "m", config=config, params=params, model=model, consolidated=consolidated)

    def looked() -> tuple[str, object]:
        shown = look_at(str(folder))
        return shown.form, shown.config

    def opened() -> tuple[str, object]:
        checkpoint = open_checkpoint(folder)
        return checkpoint.form, checkpoint.config

    expected = outcome(opened)
    assert outcome(looked) == expected
    assert outcome(lambda: (folder_form(folder), read_config(folder))) == expected


def test_native_weights_are_described_by_params_json(tmp_path: Path) -> None:
    """As many repositories have it: config.json for transformers, and weights in Mistral's form alone."""
    folder = make_folder(tmp_path / "m", config=True, params=True, model=False, consolidated=True)
    assert read_config(folder).max_position_embeddings == 128


@pytest.mark.parametrize(("config", "params", "context"), [(True, False, 64), (False, True, 128), (True, True, 64)])
def test_configuration_alone(tmp_path: Path, config: bool, params: bool, context: int) -> None:
    folder = make_folder(tmp_path / "m", config=config, params=params, model=False, consolidated=False)
    assert read_config(folder).max_position_embeddings == context
    assert folder_form(folder) == ("hf" if config else "native")


def test_the_vocabulary_that_only_the_weights_tell(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", config=False, params=True, model=False, consolidated=True)
    (folder / "params.json").write_text(json.dumps({**NATIVE, "vocab_size": -1}))
    assert read_config(folder) == open_checkpoint(folder).config
    (folder / "consolidated.safetensors").unlink()
    with pytest.raises(ConfigError, match="vocab_size"):
        read_config(folder)


def test_weights_are_not_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", config=True, params=True, model=False, consolidated=True)
    (folder / "consolidated.safetensors").write_bytes(b"")
    assert read_config(folder).max_position_embeddings == 128


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="it is no model"):
        read_config(tmp_path)


def test_a_gguf_file_goes_before_a_config_beside_it(tmp_path: Path) -> None:
    """As open_checkpoint does where there are no safetensors."""
    tensors = hf_tensors(HF)
    path = write_model_gguf(
        tmp_path / "m.gguf", HF, gguf_tensors(tensors, HF["head_dim"]), **{"llama.context_length": 256}
    )
    (tmp_path / "config.json").write_text(json.dumps(HF))
    assert find_gguf(tmp_path) == path
    shown = look_at(str(tmp_path))
    assert (shown.form, shown.config) == ("gguf", open_checkpoint(tmp_path).config)
    assert shown.config.max_position_embeddings == 256
