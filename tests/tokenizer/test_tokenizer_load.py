"""Which file of a folder counts, and what is said of folders and files that are no good."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizer_conversions import STORIES

from ostro.errors import TokenizerError
from ostro.tokenizer import load_tokenizer
from ostro.tokenizer.mistral import bundled


def put(folder: Path, version: str, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(bundled(version).source, folder / name))


def write(folder: Path, name: str, content: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def bpe_json(*added: str, num_fillers: int = 0) -> dict[str, object]:
    """A byte-level tokenizer.json with control tokens behind its bytes."""
    from ostro.tokenizer.bpe import BYTE_TO_LETTER, pre_tokenizer

    vocab = {letter: i for i, letter in enumerate(BYTE_TO_LETTER.values())}
    vocab |= {f"filler {i}": 256 + i for i in range(num_fillers)}
    tokens = [{"id": len(vocab) + i, "content": name, "special": True} for i, name in enumerate(added)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "added_tokens": [flags | token for token in tokens],
        "pre_tokenizer": pre_tokenizer(r"\s+"),
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }


def test_tekken_goes_before_everything(tmp_path: Path) -> None:
    put(tmp_path, "v3-tekken", "tekken.json")
    put(tmp_path, "v3", "tokenizer.model.v3")
    write(tmp_path, "tokenizer.json", bpe_json("<s>", num_fillers=200_000))
    assert load_tokenizer(tmp_path).version == "v3-tekken"


def test_the_highest_version_of_a_model_counts(tmp_path: Path) -> None:
    for version, name in (("v1", "tokenizer.model"), ("v2", "tokenizer.model.v2"), ("v7", "tokenizer.model.v7m1")):
        put(tmp_path, version, name)
    assert load_tokenizer(tmp_path).version == "v7"
    (tmp_path / "tokenizer.model.v7m1").unlink()
    assert load_tokenizer(tmp_path).version == "v2"
    (tmp_path / "tokenizer.model.v2").unlink()
    assert load_tokenizer(tmp_path).version == "v1"


def test_a_model_goes_before_its_conversion_unless_that_has_more_tokens(tmp_path: Path) -> None:
    put(tmp_path, "v1", "tokenizer.model")
    write(tmp_path, "tokenizer.json", bpe_json("<s>"))
    assert load_tokenizer(tmp_path).source.endswith("tokenizer.model")
    write(tmp_path, "tokenizer.json", bpe_json("<s>", "<|im_end|>", num_fillers=32_000))
    assert load_tokenizer(tmp_path).source.endswith("tokenizer.json")


def test_added_tokens_extend_an_old_model(tmp_path: Path) -> None:
    put(tmp_path, "v1", "tokenizer.model")
    write(tmp_path, "added_tokens.json", {"<|im_end|>": 32000, "<|im_start|>": 32001, "<s>": 1})
    write(tmp_path, "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.version) == (32002, 32000, "v1")
    assert tokenizer.encode("hi <|im_end|>") == bundled("v1").encode("hi <|im_end|>")
    assert tokenizer.encode_continuation("hi") == bundled("v1").encode_continuation("hi")
    assert tokenizer.encode_with_control("<|im_start|>")[0] == 32001
    write(tmp_path, "added_tokens.json", {"x": 32005})
    with pytest.raises(TokenizerError, match=r"has 32000 tokens, and added_tokens.json beside it goes on with 32005"):
        load_tokenizer(tmp_path)
    write(tmp_path, "added_tokens.json", {"x": "y"})
    with pytest.raises(TokenizerError, match="the id of 'x' is 'y'"):
        load_tokenizer(tmp_path)


def test_metas_file_is_known_by_its_content(tmp_path: Path) -> None:
    import base64

    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}" for i in range(256)]
    write(tmp_path, "tokenizer.model", "\n".join(lines) + "\n")
    write(tmp_path, "tokenizer_config.json", {"eos_token": "<|eot_id|>", "chat_template": "T"})
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.kind, tokenizer.vocab_size) == ("tiktoken", 512)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.chat_template) == (256, 265, "T")


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
@pytest.mark.parametrize("path", ["hf", "native", "hf/tokenizer.json", "hf/tokenizer.model"])
def test_a_real_folder_and_its_files(path: str) -> None:
    tokenizer = load_tokenizer(STORIES / path)
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == ("spm", 512, 1, 2)
    assert tokenizer.encode("Once upon a time") == [403, 407, 261, 378]


def test_names_and_template_come_from_the_files_beside(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.json", bpe_json("<A>", "<B>", "</s>"))
    assert (load_tokenizer(tmp_path).bos_id, load_tokenizer(tmp_path).eos_id) == (None, 258)
    write(tmp_path, "special_tokens_map.json", {"bos_token": {"content": "<A>"}, "eos_token": "<B>"})
    assert (load_tokenizer(tmp_path).bos_id, load_tokenizer(tmp_path).eos_id) == (256, 257)
    write(tmp_path, "tokenizer_config.json", {"bos_token": "<B>", "eos_token": None, "chat_template": "one"})
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.chat_template) == (257, 257, "one")
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "two"}]
    write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    assert load_tokenizer(tmp_path).chat_template == "two"
    write(tmp_path, "chat_template.json", {"chat_template": "three"})
    assert load_tokenizer(tmp_path).chat_template == "three"
    write(tmp_path, "chat_template.jinja", "네 번째")
    assert load_tokenizer(tmp_path).chat_template == "네 번째"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(TokenizerError, match=r"chat_template.jinja cannot be read as UTF-8"):
        load_tokenizer(tmp_path)


def test_whether_text_begins_with_bos_is_as_the_files_say(tmp_path: Path) -> None:
    import base64

    ranks = "".join(f"{base64.b64encode(bytes([i])).decode()} {i}\n" for i in range(256))
    put(tmp_path / "spm", "v1", "tokenizer.model")
    put(tmp_path / "tekken", "v3-tekken", "tekken.json")
    write(tmp_path / "meta", "tokenizer.model", ranks)
    write(tmp_path / "hf", "tokenizer.json", bpe_json("<s>", "</s>"))
    for folder in tmp_path.iterdir():
        assert load_tokenizer(folder).adds_bos
        for said, adds in ((False, False), (True, True), (None, True)):
            write(folder, "tokenizer_config.json", {"add_bos_token": said, "add_eos_token": True})
            tokenizer = load_tokenizer(folder)
            assert tokenizer.adds_bos is adds
            assert tokenizer.bos_id is not None
            assert not {tokenizer.bos_id, tokenizer.eos_id} & {*tokenizer.encode("hi")}
        write(folder, "tokenizer_config.json", {"add_bos_token": "no"})
        with pytest.raises(TokenizerError, match=r"tokenizer_config.json: add_bos_token is 'no', not true or false"):
            load_tokenizer(folder)


def test_without_bos_in_the_vocabulary_none_is_added(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.json", bpe_json("</s>"))
    write(tmp_path, "tokenizer_config.json", {"add_bos_token": True})
    assert (load_tokenizer(tmp_path).bos_id, load_tokenizer(tmp_path).adds_bos) == (None, False)


def test_an_empty_folder_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"looked for tekken.json, tokenizer.model.v7 .*tokenizer.json. Download"):
        load_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="no such file or folder"):
        load_tokenizer(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"", "is no SentencePiece model"),
        (b"\x00\x01\x02", "is no SentencePiece model"),
        (b"AA== 0\n!", "is no tiktoken vocabulary"),
        (b"{", "is no valid JSON"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    for path in (tmp_path, tmp_path / "tokenizer.model"):
        with pytest.raises(TokenizerError, match=rf"tokenizer.model {message}"):
            load_tokenizer(path)


def test_settings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "v1", "tokenizer.model")
    for content in ("{", "[]"):
        write(tmp_path, "tokenizer_config.json", content)
        with pytest.raises(TokenizerError, match=r"tokenizer_config.json"):
            load_tokenizer(tmp_path)


def test_either_a_folder_or_metadata(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="either a folder"):
        load_tokenizer()
    with pytest.raises(TokenizerError, match="either a folder"):
        load_tokenizer(tmp_path, gguf_metadata={})
    with pytest.raises(TokenizerError, match=r"x.gguf: the metadata has no tokenizer.ggml.model"):
        load_tokenizer(gguf_metadata={}, source="x.gguf")


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'tokenizers', 'tiktoken', 'sentencepiece', 'mistral_common', 'numpy', 'torch', 'transformers'}"
    code = f"import sys, ostro.tokenizer, ostro.tokenizer.load; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "set()\n"


def test_the_package_gives_its_names_lazily() -> None:
    import ostro.tokenizer

    assert [getattr(ostro.tokenizer, name).__name__ for name in ostro.tokenizer.__all__] == ostro.tokenizer.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ostro.tokenizer.nothing  # noqa: B018
