"""The tasks of ostro-mini: what they make can be rendered and judged, and the judges tell right from wrong."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from ostro.chat import parse_messages, render_chat
from ostro.tokenizer.mistral import bundled
from recipes.ostro_mini.data import dense_samples
from recipes.ostro_mini.sample import Answer, Call, Sample
from recipes.ostro_mini.split import Split
from recipes.ostro_mini.tasks import TASKS, passkey
from recipes.ostro_mini.tasks.functions import PROGRAMS
from recipes.ostro_mini.tasks.json_lines import json_of
from recipes.ostro_mini.tasks.refusal import REFUSAL, refuses

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "recipes").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def made(name: str, split: Split = "train", count: int = 60) -> list[Sample]:
    rng = random.Random(f"test {name} {split}")
    return [TASKS[name].generate(rng, split) for _ in range(count)]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_wanted_answer_is_right_and_a_rejected_one_is_wrong(name: str, split: Split) -> None:
    samples = made(name, split)
    assert {sample.language for sample in samples} == {"en", "ko"}
    for sample in samples:
        assert sample.task == name
        assert TASKS[name].check(sample, sample.answer)
        assert not TASKS[name].check(sample, Answer("something else 1"[: 0 if name == "harmless" else None]))
        assert sample.rejected is None or not TASKS[name].check(sample, sample.rejected)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_need_no_repair_and_answers_are_completions(name: str) -> None:
    tokenizer = bundled("v3")
    for sample in made(name, count=15):
        whole = [*sample.prompt(), sample.answer.message()]
        prompt = render_chat(
            tokenizer,
            whole,
            tools=sample.tools,
            safe_prompt=sample.safe_prompt,
            add_generation_prompt=False,
            strict=True,
        )
        assert not prompt.repairs
        answer = sample.answer.content or json.dumps(dict(sample.answer.tool_calls[0].arguments), ensure_ascii=False)
        trained = "".join(segment.text for segment in prompt.segments if segment.is_completion)
        assert answer.rstrip(" ") in trained


def test_dense_samples_ask_more_of_one_text() -> None:
    samples = list(dense_samples(300, 0))
    assert all(TASKS[sample.task].check(sample, sample.answer) for sample in samples)
    for name in ("json", "context", "abstention", "lookup"):
        dense, plain = ([len(s.messages) for s in each if s.task == name] for each in (samples, made(name)))
        assert sum(dense) / len(dense) > 1.5 * sum(plain) / len(plain)
    calls = [len(s.answer.tool_calls) for s in samples if s.task == "parallel_tools"]
    assert min(calls) == 2
    assert max(calls) > 3


def test_answers_without_their_system_prompt_are_not_trained() -> None:
    """The format writes it with the last user's message alone, so earlier answers stand there without it.

    In few-shot conversations the examples before an answer say enough.
    """
    for name in TASKS.keys() - {"few_shot"}:
        for sample in made(name):
            if sample.safe_prompt or sample.messages[0]["role"] == "system":
                earlier = [message for message in sample.messages if message["role"] == "assistant"]
                assert all(message.get("weight") == 0 for message in earlier)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (json_of({"name": "Ted", "age": "31"}), True),
        ('{"name": "Ted", "age": 31}', True),
        ('{"age": 31, "name": "Ted"}', False),
        ('{"name": "Ted", "age": "31"}', False),
        ('Here: {"name": "Ted", "age": 31}', False),
        ('["name", "age"]', False),
        ("", False),
    ],
)
def test_json_is_judged_by_keys_order_and_types(answer: str, right: bool) -> None:
    sample = Sample("json", "en", (), Answer('{"name": "Ted", "age": 31}'))
    assert TASKS["json"].check(sample, Answer(answer)) is right


def test_calls_are_judged_whatever_their_order() -> None:
    one, two = Call("find", {"city": "Oslo", "count": 2}), Call("find", {"city": "Rome", "count": 2})
    sample = Sample("parallel_tools", "en", (), Answer(tool_calls=(one, two)))
    check = TASKS["parallel_tools"].check
    assert check(sample, Answer(tool_calls=(two, Call("find", {"count": 2, "city": "Oslo"}))))
    assert not check(sample, Answer(tool_calls=(one,)))
    assert not check(sample, Answer(tool_calls=(one, one)))
    assert not check(sample, Answer(tool_calls=(one, Call("find", {"city": "Rome", "count": "2"}))))


def test_calls_fit_the_schemas_of_their_tools() -> None:
    import jsonschema

    for name in ("tool", "parallel_tools"):
        for sample in made(name):
            schemas: dict[str, Any] = {t["function"]["name"]: t["function"]["parameters"] for t in sample.tools}
            assert len(schemas) == len(sample.tools)
            for call in sample.answer.tool_calls:
                jsonschema.validate(dict(call.arguments), schemas[call.name])
                assert call.arguments.keys() <= schemas[call.name]["properties"].keys()
            assert len(sample.answer.tool_calls) == (1 if name == "tool" else 2)


def test_contexts_hold_the_quote_and_lack_what_is_said_to_lack() -> None:
    for sample in made("context"):
        quote = sample.answer.content.strip('"')
        assert quote in sample.messages[-1]["content"] or quote in "".join(m["content"] for m in sample.messages)
    for sample in made("abstention"):
        assert '"' not in sample.answer.content


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_the_passkey_stands_where_it_is_wanted(language: Any, depth: float) -> None:
    sample = passkey.build(random.Random(1), "heldout", language, num_sentences=10, depth=depth, key="90210")
    text = sample.messages[0]["content"].split("\n\n")[1]
    share = text.index("90210") / len(text)
    assert abs(share - depth) < 0.35
    assert passkey.check(sample, Answer("90210"))
    assert not passkey.check(sample, Answer("90210 or 90211"))


def test_harm_is_refused_and_nothing_else_is() -> None:
    assert all(refuses(sample.answer.content) and sample.safe_prompt for sample in made("refusal", "heldout"))
    harmless = made("harmless", "heldout")
    assert {sample.safe_prompt for sample in harmless} == {True, False}
    assert not any(refuses(sample.answer.content) for sample in harmless)
    assert all(refuses(text) for text in REFUSAL.values())


def test_the_functions_do_what_they_say() -> None:
    namespace: dict[str, Any] = {}
    for program in PROGRAMS:
        exec(program.source.format(name=program.name), namespace)
    assert namespace["celsius_to_fahrenheit"](100) == 212
    assert namespace["fahrenheit_to_celsius"](212) == 100
    with contextlib.redirect_stdout(io.StringIO()) as out:
        namespace["fizz_buzz"](15)
    assert out.getvalue().split() == [
        "1",
        "2",
        "Fizz",
        "4",
        "Buzz",
        "Fizz",
        "7",
        "8",
        "Fizz",
        "Buzz",
        "11",
        "Fizz",
        "13",
        "14",
        "FizzBuzz",
    ]


def test_a_fence_around_a_function_is_no_mistake() -> None:
    sample = made("function")[0]
    assert TASKS["function"].check(sample, Answer(f"```python\n{sample.answer.content}\n```"))
    assert not TASKS["function"].check(sample, Answer("def f(:"))


def test_results_stand_behind_their_calls() -> None:
    for sample in made("tool_result"):
        parsed = parse_messages(sample.prompt())
        assert parsed[-1].role == "tool"
        assert sample.messages[-2]["weight"] == 0  # its id may come from anywhere and cannot be learnt
