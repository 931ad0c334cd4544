"""A tiny chat model of random weights: under a grammar it calls tools as a trained one would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import save_tiny
from toy_tokenizer import LLAMA

from ostro import LLM


@pytest.fixture(scope="session")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    from ostro.tokenizer.mistral import bundled

    folder = save_tiny(
        "mistral-7b-v0.3", tmp_path_factory.mktemp("tools") / "mistral", vocab_size=32768, max_position_embeddings=4096
    )
    shutil.copy(bundled("v3").source, folder / "tokenizer.model.v3")
    return LLM(folder, max_model_len=2048)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory, llama_tokenizer: Callable[[Path], None]) -> LLM:
    count = 256 + len(LLAMA)
    folder = tmp_path_factory.mktemp("tools") / "llama"
    save_tiny("llama-3.2", folder, vocab_size=count, bos_token_id=256, eos_token_id=262, max_position_embeddings=8192)
    llama_tokenizer(folder)
    return LLM(folder, max_model_len=4096)


@pytest.fixture(scope="session")
def llama_tokenizer() -> Callable[[Path], None]:
    """Writes a tokenizer.json of bytes with Llama 3's control tokens into a folder."""

    def write(folder: Path) -> None:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({char: n for n, char in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(name, special=True) for name in LLAMA])
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"bos_token": LLAMA[0], "eos_token": "<|eot_id|>", "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))

    return write
