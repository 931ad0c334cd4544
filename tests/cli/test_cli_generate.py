"""`ostro generate` with a real pretrained model, in its forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostro import LLM, SamplingParams

Run = Callable[..., Any]
STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"
HF = STORIES / "hf"
GREEDY = ("--temperature", "0", "--max-tokens", "24")
BEGINNING = "Once upon a time, there was a little girl named Lily."

pytestmark = pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")


@pytest.mark.parametrize("form", ["hf", "native", "stories260K.gguf"])
def test_an_empty_prompt_tells_the_story(run: Run, form: str) -> None:
    result = run("generate", "-m", STORIES / form, *GREEDY)
    assert result.code == 0
    assert result.out.startswith(BEGINNING)
    assert result.out.endswith("\n")
    assert result.err == ""


def test_text_stdin_and_ids_are_one(run: Run) -> None:
    text = run("generate", "-m", HF, "Once upon a time", *GREEDY).out
    assert run("generate", "-m", HF, *GREEDY, stdin="Once upon a time\n").out == text
    assert run("generate", "-m", HF, *GREEDY, "--ids", "1,403,407 261,378").out == text
    assert run("generate", "-m", HF, "Once upon a time", *GREEDY, "--echo").out == "Once upon a time" + text


def test_json_is_the_whole_result(run: Run) -> None:
    found = run("generate", "-m", HF, "Once", *GREEDY, "--logprobs", "2", "--json").json
    params = SamplingParams(temperature=0, max_tokens=24, logprobs=2)
    output = LLM(HF).generate("Once", params)[0]
    answer = output.outputs[0]
    (completion,) = found["outputs"]
    assert completion["token_ids"] == answer.token_ids
    assert (completion["text"], completion["finish_reason"]) == (answer.text, "length")
    assert found["prompt"] == "Once"
    assert found["prompt_token_ids"] == output.prompt_token_ids
    assert found["usage"] == {
        "prompt_tokens": len(output.prompt_token_ids), "completion_tokens": 24,
        "total_tokens": len(output.prompt_token_ids) + 24, "cached_tokens": 0,
    }  # fmt: skip
    assert answer.logprobs is not None
    for step, expected in zip(completion["logprobs"], answer.logprobs, strict=True):
        assert {entry["id"]: entry["logprob"] for entry in step} == {i: e.logprob for i, e in expected.items()}
    assert 0 < found["seconds"]["to_first_token"] <= found["seconds"]["in_all"]


def test_several_completions(run: Run) -> None:
    args = ("generate", "-m", HF, "Tom", "--seed", "5", "-n", "2", "--max-tokens", "8")
    found = run(*args, "--json").json
    texts = [completion["text"] for completion in found["outputs"]]
    assert len(set(texts)) == 2
    assert run(*args).out == f"--- 1/2 ---\n{texts[0]}\n\n--- 2/2 ---\n{texts[1]}\n"
    assert run(*args, "--echo").out == f"--- 1/2 ---\nTom{texts[0]}\n\n--- 2/2 ---\nTom{texts[1]}\n"


def test_the_checkpoint_recommends_and_options_decide(run: Run, tmp_path: Path) -> None:
    for file in HF.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.0, "max_new_tokens": 5}')
    found = run("generate", "-m", tmp_path, "--max-tokens", "3", "--json").json["outputs"][0]
    assert found["token_ids"] == [403, 407, 261]  # greedy, and as many as the option allows
    assert len(run("generate", "-m", tmp_path, "--json").json["outputs"][0]["token_ids"]) == 5


def test_logprobs_as_a_table(run: Run) -> None:
    result = run("generate", "-m", HF, "--ids", "1,403", "--temperature", "0", "--max-tokens", "2", "--logprobs", "1")
    lines = [line.split() for line in result.out.splitlines() if line]
    assert lines[0] == ["upon", "a"]
    assert lines[1] == ["ID", "TOKEN", "LOGPROB", "RANK", "LIKELIEST"]
    assert [(row[0], row[1], row[3]) for row in lines[2:]] == [("407", "▁upon", "1"), ("261", "▁a", "1")]


def test_how_it_ends(run: Run) -> None:
    args = ("generate", "-m", HF, "--temperature", "0")
    assert run(*args, "--stop", "girl").out == "Once upon a time, there was a little \n"
    assert run(*args, "--stop", "girl", "--include-stop").out == "Once upon a time, there was a little girl\n"
    found = run(*args, "--stop-token-id", "261", "--json").json["outputs"][0]
    assert (found["finish_reason"], found["stop_reason"], found["token_ids"]) == ("stop", 261, [403, 407, 261])
    banned = run(*args, "--logit-bias", "403=-100", "--max-tokens", "1", "--json").json["outputs"][0]
    assert banned["token_ids"] != [403]


@pytest.mark.parametrize("backend", ["cpu", "reference", "torch"])
def test_backends_and_types(run: Run, backend: str) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    result = run("generate", "-m", HF, *GREEDY, "--backend", backend, "--dtype", "float32", "--kv-dtype", "float32")
    assert result.out.startswith(BEGINNING)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--top-p", "2"], 2, "--top-p must be"),
        (["--max-tokens", "0"], 2, "--max-tokens must be"),
        (["--max-tokens", "600"], 1, "and --max-tokens 600: "),
        (["--temperature", "hot"], 2, "'--temperature': 'hot' is not a number"),
        (["--stop-token-id", "x"], 2, "'--stop-token-id': 'x' is not a whole number"),
        (["--ids", "1,x"], 2, "1,733,16289"),
        (["--ids", "1", "text"], 2, "not both"),
        (["--ids", "512"], 1, "512"),
        (["--logit-bias", "x"], 2, "ID=X"),
        (["--backend", "abacus"], 2, "'abacus' is none of auto, cpu, reference, torch"),
        (["--threads", "0"], 2, "'--threads': '0' is too small"),
        (["--max-model-len", "100000"], 1, "512"),
        (["--device", "cuda", "--backend", "cpu"], 1, "device"),
        (["--revision", "main"], 1, "revision"),
    ],
)
def test_refusals(run: Run, args: list[str], code: int, words: str) -> None:
    result = run("generate", "-m", HF, *args)
    assert (result.code, result.out) == (code, "")
    assert words in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err


def test_stdin_must_be_text(run: Run) -> None:
    result = run("generate", "-m", HF, stdin=b"abc\xff")
    assert result.code == 1
    assert "0xff at position 3" in result.err


def test_the_model_of_the_environment(ostro: Run) -> None:
    done = ostro("generate", *GREEDY, OSTRO_MODEL=str(HF))
    assert done.stdout.startswith(BEGINNING)


@pytest.mark.parametrize("command", ["run", "chat"])
def test_a_base_model_has_no_chat(run: Run, command: str) -> None:
    args = ["chat", HF] if command == "chat" else ["run", "-m", HF]
    result = run(*args, stdin="hello")
    assert (result.code, result.out) == (1, "")
    assert "base model" in result.err
    assert f"`ostro generate -m {HF} TEXT`" in result.err
    assert len(result.err) < 500
