"""Tiny models in every form, and packed folders of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from checkpoint_forms import (
    config_json,
    gguf_tensors,
    hf_tensors,
    mixtral_json,
    native_tensors,
    params_json,
    write_hf,
    write_model_gguf,
    write_native,
)

from ostro.checkpoint.open import open_checkpoint
from ostro.models.convert import Conversion, convert, quantization_of

SIZES = {"hidden_size": 48, "intermediate_size": 80, "head_dim": 16, "num_attention_heads": 3, "vocab_size": 300}
"""Sizes that fill neither a group of 32 columns nor a panel of 16 rows."""

STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"


def source_config(kind: str = "dense") -> dict[str, Any]:
    """The config.json of a dense model, of one with tied embeddings, or of a mixture of experts."""
    base = mixtral_json() if kind == "moe" else config_json()
    return base | SIZES | {"tie_word_embeddings": kind == "tied"}


def write_source(folder: Path, kind: str = "dense", form: str = "hf") -> Path:
    """A float32 model of random weights in one of the forms hf, native and gguf; its folder or file."""
    config = source_config(kind)
    tensors = hf_tensors(config)
    folder.mkdir(parents=True, exist_ok=True)
    if form == "native":
        stated = params_json(config, tied_embeddings=kind == "tied")
        return write_native(folder, stated, native_tensors(tensors, config["head_dim"]))
    if form == "gguf":
        return write_model_gguf(folder / "model.gguf", config, gguf_tensors(tensors, config["head_dim"]))
    return write_hf(folder, config, tensors)


def write_packed(folder: Path, source: Path, bits: int = 4, codebook: str | None = None) -> Conversion:
    """The source packed into `folder`."""
    return convert(open_checkpoint(source), folder, quantization_of(bits, codebook))


def add_vocabulary(folder: Path, vocab_size: int = 300) -> Path:
    """A tokenizer.json of single bytes and BOS and EOS, for a model of at least 258 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    assert vocab_size >= 258
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    """The folder's files once more, to be damaged."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target
