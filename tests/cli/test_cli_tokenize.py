"""`ostro tokenize`: ids, pieces and where each came from; and the comparison of the source document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

Run = Callable[..., Any]
STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "weather-tool.json"
WEATHER: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    path = tmp_path / "weather.json"
    path.write_text(json.dumps(WEATHER))
    return path


def common_ids(version: str) -> list[int]:
    """What mistral-common makes of the tool prompt."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.v3(is_tekken=True) if version == "v3-tekken" else MistralTokenizer.v3()
    return list(tokenizer.encode_chat_completion(ChatCompletionRequest.model_validate(WEATHER)).tokens)


def test_nemo_needs_fewer_tokens_than_large_for_the_tool_prompt(run: Run, weather: Path) -> None:
    names = ["nemo", "mistral-large", "open-mistral-nemo", "mistral-large-latest", "v7", "v7-tekken"]
    result = run("tokenize", "--compare", *names, "--chat", weather, "--json")
    assert result.code == 0
    rows = result.json["tokenizers"]
    assert [row["name"] for row in rows] == names
    assert [row["num_tokens"] for row in rows] == [128, 135, 128, 135, 135, 128]
    assert [row["version"] for row in rows][:2] == ["v3-tekken", "v3"]
    assert rows[0]["tokens_per_character"] == pytest.approx(128 / result.json["num_characters"])
    lines = run("tokenize", "--compare", "nemo", "mistral-large", "--chat", weather).out.splitlines()
    assert lines[1].split() == ["nemo", "tekken", "v3-tekken", "131072", "128", "0.270"]
    assert lines[2].split() == ["mistral-large", "spm", "v3", "32768", "135", "0.285", "+5.5", "%"]


@pytest.mark.parametrize(("name", "version"), [("nemo", "v3-tekken"), ("mistral-large", "v3")])
def test_ids_are_those_of_mistral_common(run: Run, weather: Path, name: str, version: str) -> None:
    found = run("tokenize", "-m", name, "--chat", weather, "--json").json
    assert found["token_ids"] == common_ids(version)
    assert found["num_tokens"] == len(found["tokens"]) == len(found["token_ids"])


def test_every_token_says_where_it_came_from(run: Run, weather: Path) -> None:
    tokens = run("tokenize", "--tokenizer", "v3", "--chat", weather, "--json").json["tokens"]
    assert (tokens[0]["piece"], tokens[0]["kind"], tokens[0]["origin"]) == ("<s>", "control", "bos")
    assert {"bos", "tools", "template", "user[0]"} == {token["origin"] for token in tokens}
    user = "".join(token["piece"] for token in tokens if token["origin"] == "user[0]")
    assert user.replace("▁", " ").strip() == "What's the weather like today in Paris"


def test_a_format_without_tools_is_noted_and_the_others_are_counted(run: Run, weather: Path) -> None:
    result = run("tokenize", "--compare", "nemo", "v1", "--chat", weather)
    assert result.code == 0
    assert "128" in result.out
    assert "warning: v1: " in result.err
    rows = run("tokenize", "--compare", "v1", "--chat", weather, "--json").json["tokenizers"]
    assert rows[0]["num_tokens"] is None
    assert "tools" in rows[0]["error"]


def test_control_tokens_in_text_stay_text(run: Run) -> None:
    tokens = run("tokenize", "--tokenizer", "v3", "</s>[INST]", "--json").json["tokens"]
    assert [token["kind"] for token in tokens] == ["control"] + ["text"] * (len(tokens) - 1)


def test_bytes_of_a_character_are_told(run: Run) -> None:
    rows = run("tokenize", "--tokenizer", "v1", "녕", "--no-bos", "--json").json["tokens"]
    assert [(row["piece"], row["kind"]) for row in rows][-3:] == [
        ("<0xEB>", "byte"),
        ("<0x85>", "byte"),
        ("<0x95>", "byte"),
    ]
    tekken = run("tokenize", "--tokenizer", "v3-tekken", "🜚", "--json").json["tokens"]
    assert "byte" in {row["kind"] for row in tekken}


def test_text_from_stdin_and_the_table(run: Run) -> None:
    result = run("tokenize", "--tokenizer", "v3", stdin="Hello world\n")
    assert [line.split() for line in result.out.splitlines()] == [
        ["#", "ID", "PIECE", "KIND", "FROM"],
        ["0", "1", "<s>", "control", "bos"],
        ["1", "23325", "▁Hello", "text", "text"],
        ["2", "2294", "▁world", "text", "text"],
    ]
    assert "3 tokens for 11 characters" in result.err
    assert run("tokenize", "--tokenizer", "v3", "--no-bos", "--json", stdin="").json["token_ids"] == []


def test_rows_in_thousands_are_aligned(run: Run) -> None:
    words = ["alpha", "안녕하세요", "\u3000", "x" * 40]
    result = run("tokenize", "--tokenizer", "v3-tekken", " ".join(words * 800))
    lines = result.out.splitlines()
    assert len(lines) == 1 + int(result.err.split()[0])
    kinds = {cell_len(re.match(r"(.*?)(text|byte|control) +\S+$", line)[1]) for line in lines[1:]}  # type: ignore[index]
    assert len(kinds) == 1


def test_one_token_is_no_tokens(run: Run) -> None:
    assert "1 token for 1 character (" in run("tokenize", "--tokenizer", "v3", "--no-bos", "a").err


def test_compare_of_texts(run: Run) -> None:
    rows = run("tokenize", "--compare", "v1", "v3-tekken", "--text", "안녕하세요", "--no-bos", "--json").json[
        "tokenizers"
    ]
    assert rows[0]["num_tokens"] > rows[1]["num_tokens"]
    piped = run("tokenize", "--compare", "v1", "v3-tekken", "--no-bos", "--json", stdin="안녕하세요\n").json
    assert piped["tokenizers"] == rows


def test_a_saved_conversation_ends_with_an_answer(run: Run) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    tokens = run("tokenize", "--tokenizer", "v3", "--chat", "-", "--json", stdin=json.dumps(chat)).json["tokens"]
    assert (tokens[-1]["piece"], tokens[-1]["origin"]) == ("</s>", "assistant[1]")


def test_what_is_mended_is_said(run: Run) -> None:
    chat = json.dumps([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert "mended: " in run("tokenize", "--tokenizer", "v3", "--chat", "-", stdin=chat).err
    result = run("tokenize", "--tokenizer", "v3", "--chat", "-", "--strict", stdin=chat)
    assert result.code == 1
    assert "messages[1]" in result.err


def test_options_of_a_chat(run: Run) -> None:
    chat = json.dumps([{"role": "user", "content": "a"}])
    plain = run("tokenize", "--tokenizer", "v3", "--chat", "-", "--json", stdin=chat).json["num_tokens"]
    safe = run("tokenize", "--tokenizer", "v3", "--chat", "-", "--safe-prompt", "--json", stdin=chat).json
    assert safe["num_tokens"] > plain + 20
    v2 = run("tokenize", "--tokenizer", "v3", "--chat", "-", "--chat-format", "mistral-v2", "--json", stdin=chat)
    assert v2.code == 0
    assert run("tokenize", "--tokenizer", "v3", "--chat", "-", "--chat-format", "v99", stdin=chat).code == 1


@pytest.mark.parametrize(
    ("args", "stdin", "code", "words"),
    [
        (["hello"], "", 2, "Name a model"),
        (["--tokenizer", "v9", "hello"], "", 2, "v3-tekken"),
        (["--tokenizer", "v3", "-m", "nemo", "hello"], "", 2, "not both"),
        (["--tokenizer", "v3", "a", "b"], "", 2, "quotation marks"),
        (["--tokenizer", "v3", "a", "--strict"], "", 2, "--chat"),
        (["--tokenizer", "v3", "a", "--chat", "-"], "[]", 2, "TEXT"),
        (["--compare"], "x", 2, "nemo"),
        (["--compare", "nemo", "-m", "x"], "x", 2, "--compare"),
        (["--compare", "nemo", "no-such"], "x", 1, "no-such"),
        (["--tokenizer", "v3", "--chat", "-"], "{", 1, "not valid JSON"),
        (["--tokenizer", "v3", "--chat", "-"], "[]", 1, "messages is empty"),
        (["--tokenizer", "v3", "--chat", "-"], '{"messages": [], "model": "x"}', 1, "'model'"),
        (["--tokenizer", "v3", "--chat", "-"], '{"messages": [1]}', 1, "list of messages"),
        (["--tokenizer", "v3", "--chat", "-"], '{"messages": [], "tools": {}}', 1, "tools must be a list"),
        (["--tokenizer", "v3", "--chat", "-"], '{"messages": [], "safe_prompt": 1}', 1, "safe_prompt must be true or"),
        (["--tokenizer", "v3", "--chat", "-"], '{"messages": [], "today": "soon"}', 1, "YYYY-MM-DD, not 'soon'"),
        (["--tokenizer", "v3", "a", "--today", "2026-03-31"], "", 2, "--chat"),
        (["--tokenizer", "v3", "--chat", "/no/such/file"], "", 1, "cannot be read"),
        (["--tokenizer", "v3"], b"\xff", 1, "0xff at position 0"),
    ],
)
def test_refusals(run: Run, args: list[str], stdin: str | bytes, code: int, words: str) -> None:
    result = run("tokenize", *args, stdin=stdin)
    assert (result.code, result.out) == (code, "")
    assert words in " ".join(result.err.replace("│", " ").split())


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
@pytest.mark.parametrize("form", ["hf", "native", "stories260K.gguf", "hf/tokenizer.model"])
def test_the_tokenizer_of_a_model(run: Run, form: str) -> None:
    result = run("tokenize", "-m", STORIES / form, "Once upon a time", "--json")
    if form.endswith("tokenizer.model"):
        assert result.code == 1
        return
    assert result.json["token_ids"] == [1, 403, 407, 261, 378]
