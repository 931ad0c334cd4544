"""save_pretrained of a tokenizer: the same ids from AutoTokenizer, ostro.LLM and transformers, and changes kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mistral_common
import pytest
import transformers

from ostro import LLM
from ostro.errors import RequestError, TokenizerError
from ostro.transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizer

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "models" / "stories260K"
DATA = Path(mistral_common.__file__).parent / "data"
TEXT = "Lily's dog\n  ran </s> 안녕 🦙"
CONFIG = "tokenizer_config.json"
needs_stories = pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside the checkout")


def ids(tokenizer: PreTrainedTokenizer) -> Any:
    return tokenizer([TEXT, ""])["input_ids"], tokenizer(TEXT, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tokenizer.model.v1", "tokenizer.model"),
        ("mistral_instruct_tokenizer_240323.model.v3", "tokenizer.model.v3"),
        ("tekken_240911.json", "tekken.json"),
    ],
)
def test_mistrals_own_files_come_back(file: str, name: str, tmp_path: Path) -> None:
    source, saved = tmp_path / "source", tmp_path / "deep" / "saved"
    source.mkdir()
    shutil.copy(DATA / file, source / name)
    (source / "model.safetensors").write_bytes(b"not of the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(source)
    assert tokenizer.save_pretrained(saved) == (str(saved / name),)
    assert [path.name for path in saved.iterdir()] == [name]
    assert ids(AutoTokenizer.from_pretrained(saved)) == ids(tokenizer)


@needs_stories
@pytest.mark.parametrize("form", ["hf", "native"])
def test_a_saved_model_and_tokenizer_run_everywhere(form: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STORIES / form)
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(STORIES / form).save_pretrained(tmp_path)
    assert ids(AutoTokenizer.from_pretrained(tmp_path)) == ids(tokenizer)
    assert LLM(tmp_path).tokenizer.encode(TEXT) == tokenizer(TEXT, split_special_tokens=True)["input_ids"][1:]
    if form == "hf":  # transformers needs protobuf to read a tokenizer.model that stands alone
        plain = "Lily's dog\n  ran"
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs(plain, add_special_tokens=False)["input_ids"] == tokenizer(plain)["input_ids"][1:]


@needs_stories
def test_changed_settings_are_kept(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STORIES / "hf", padding_side="right", model_max_length=99)
    tokenizer.pad_token, tokenizer.eos_token, tokenizer.add_eos_token = "<unk>", "<unk>", True
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path)
    stated = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
    before = json.loads((STORIES / "hf" / CONFIG).read_text(encoding="utf-8"))
    assert {key for key in stated if stated[key] != before.get(key)} == {
        *("padding_side", "model_max_length", "pad_token", "eos_token", "add_eos_token", "chat_template")
    }
    again = AutoTokenizer.from_pretrained(tmp_path)
    for name in ("padding_side", "truncation_side", "model_max_length", "pad_token_id", "eos_token_id", "bos_token_id"):
        assert getattr(again, name) == getattr(tokenizer, name), name
    assert ids(again) == ids(tokenizer)
    chat = [{"role": "user", "content": "a dog"}]
    assert again.apply_chat_template(chat) == tokenizer.apply_chat_template(chat)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.padding_side, theirs.pad_token, theirs.model_max_length) == ("right", "<unk>", 99)
    assert theirs.chat_template == tokenizer.chat_template


def test_a_pad_token_in_both_files(chat_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(chat_folder() / "tokenizer.model", source)
    (source / "special_tokens_map.json").write_text('{"pad_token": {"content": "</s>"}, "unk_token": "<unk>"}')
    (source / "chat_template.jinja").write_text("[INST] {{ messages }}")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.pad_token = "<unk>"
    tokenizer.save_pretrained(tmp_path / "changed")
    assert AutoTokenizer.from_pretrained(tmp_path / "changed").pad_token == "<unk>"
    special = json.loads((tmp_path / "changed" / "special_tokens_map.json").read_text())
    assert special == {"pad_token": "<unk>", "unk_token": "<unk>"}
    assert (tmp_path / "changed" / "chat_template.jinja").read_text() == "[INST] {{ messages }}"
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "none")
    assert AutoTokenizer.from_pretrained(tmp_path / "none").pad_token is None


def test_saving_over_other_files_and_in_place(chat_folder: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder())
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / CONFIG).symlink_to(outside)  # as in the hub's cache
    (folder / "tekken.json").write_text("{}")  # would be read instead
    (folder / "notes.txt").write_text("mine")
    tokenizer.pad_token = "</s>"
    tokenizer.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "tokenizer.model", CONFIG]
    assert outside.read_text() == "{}"
    again = AutoTokenizer.from_pretrained(folder)
    again.padding_side = "right"
    again.save_pretrained(folder)
    third = AutoTokenizer.from_pretrained(folder)
    assert (third.padding_side, third.pad_token) == ("right", "</s>")
    assert ids(third) == ids(tokenizer)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError, match="no longer there"):
        third.save_pretrained(tmp_path / "late")


@needs_stories
def test_a_gguf_file_has_no_tokenizer_files(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STORIES / "stories260K.gguf")
    with pytest.raises(RequestError, match=r"stories260K\.gguf cannot be saved.*Copy the GGUF file"):
        tokenizer.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_what_the_files_cannot_hold_is_refused(chat_folder: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder(), chat_template="[INST] {{ messages }}")
    with pytest.raises(RequestError, match=r"format mistral-v3.*would be saved and not used"):
        tokenizer.save_pretrained(tmp_path / "saved")
    tokenizer.chat_template, tokenizer.bos_token = None, None
    with pytest.raises(RequestError, match=r"bos_token=None cannot be saved: .* read back with '<s>'"):
        tokenizer.save_pretrained(tmp_path / "saved")
    tokenizer.bos_token = "<s>"
    with pytest.raises(RequestError, match="push_to_hub"):
        tokenizer.save_pretrained(tmp_path / "saved", push_to_hub=True)
    assert not (tmp_path / "saved").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="Give a folder"):
        tokenizer.save_pretrained(tmp_path / "file")
