"""The clients' own packages against a live server: each scenario in each version, and all of them agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pytest

Found = Callable[[str, str], dict[str, Any]]
Client = tuple[str, str, str]
"""Environment, program, and the ending of its scenarios' names."""

SLOW = set(environments.SLOW)
AZURE = [("tutorial", "azure_inference"), ("current", "azure_inference")]
MISTRAL_0 = [("mistral-0.0", "mistral_0"), ("tutorial", "mistral_0"), ("mistral-0.4", "mistral_0")]
MISTRAL_1 = [("mistral-1", "mistral_1"), ("mistral-2", "mistral_1"), ("current", "mistral_1")]
OPENAI = [("mistral-1", "openai_sdk"), ("current", "openai_sdk")]
PLAIN = [*AZURE, *MISTRAL_0, *MISTRAL_1, *OPENAI]
LANGCHAIN = ["openai", "mistral"]
LITELLM = ["openai", "mistral", "hosted_vllm", "azure_ai"]
WITHOUT_TOOLS = ("mistral-0.0", "mistral_0")
NEEDS_MISTRAL_IDS = re.compile(r"[a-zA-Z0-9]{9}")


def cases(scenario: str, plain: list[tuple[str, str]], litellm: list[str] | None = None, langchain: bool = True) -> Any:
    """Every client that has a scenario, as parameters (environment, program, name of the scenario there)."""
    made = [(environment, program, scenario) for environment, program in plain]
    if langchain:
        made += [("current", "langchain", f"{name}_{scenario}") for name in LANGCHAIN]
    made += [("current", "litellm_sdk", f"{scenario}_{route}") for route in litellm or ()]
    return pytest.mark.parametrize(
        ("environment", "program", "scenario"),
        [pytest.param(*case, id="-".join(case), marks=[pytest.mark.slow] if case[0] in SLOW else []) for case in made],
    )


def value(found: Found, environment: str, program: str, scenario: str) -> dict[str, Any]:
    """What a scenario found; fails with the client's traceback where it raised."""
    got: dict[str, Any] = found(environment, program)[scenario]
    assert "raised" not in got, f"{got['raised']}\n{got.get('where', '')}"
    return got


@pytest.fixture(scope="session")
def reference(found: Found) -> dict[str, Any]:
    """The answer that all clients must read, as one of them read it."""
    return value(found, "current", "openai_sdk", "chat")


@cases("chat", PLAIN, LITELLM)
def test_chat(found: Found, reference: dict[str, Any], environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert got["content"]
    assert got == reference


@cases("stream", PLAIN, LITELLM)
def test_a_stream_is_the_same_answer(
    found: Found, reference: dict[str, Any], environment: str, program: str, scenario: str
) -> None:
    got = value(found, environment, program, scenario)
    assert got["content"] == reference["content"]
    assert set(_list(got["finish_reason"])) == {reference["finish_reason"]}
    assert got.get("completion_tokens", reference["completion_tokens"]) == reference["completion_tokens"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# litellm's route hosted_vllm takes additionalProperties out of the schema, and then a random model's keys have no end.
@cases("tools", [client for client in PLAIN if client != WITHOUT_TOOLS], ["openai", "mistral"])
def test_tools_over_two_turns(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert_calls(got["calls"])
    assert got["finish_reason"] == "tool_calls"
    assert isinstance(got["answer"], str)
    assert got["answer"]


@cases("tools_stream", [client for client in PLAIN if client != WITHOUT_TOOLS])
def test_calls_in_a_stream(found: Found, environment: str, program: str, scenario: str) -> None:
    assert_calls(value(found, environment, program, scenario)["calls"])


def assert_calls(calls: list[tuple[str, str, dict[str, str]]]) -> None:
    assert calls
    for call_id, name, arguments in calls:
        assert NEEDS_MISTRAL_IDS.fullmatch(call_id)
        assert name == "get_weather"
        assert set(arguments) == {"city"}
        assert arguments["city"] in ("Paris", "Oslo")
    assert len({call_id for call_id, _, _ in calls}) == len(calls)


@cases("schema", [*AZURE, *MISTRAL_1, *OPENAI], ["openai", "hosted_vllm"])
def test_json_schema(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert set(got) == {"colour", "dark"}
    assert got["colour"] in ("red", "green")
    assert isinstance(got["dark"], bool)


@pytest.mark.parametrize(
    ("environment", "program", "scenario"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case[0] in SLOW else [])
        for case in [
            *((environment, program, "embed") for environment, program in PLAIN),
            ("current", "langchain", "openai_embed"),
            ("current", "langchain", "openai_embed_ids"),
            ("current", "langchain", "mistral_embed"),
            ("current", "litellm_sdk", "embed"),
        ]
    ],
)
def test_embeddings(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    vectors = np.array(got["vectors"])
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    expected = value(found, "current", "azure_inference", "embed")
    np.testing.assert_allclose(vectors, expected["vectors"], atol=1e-6)
    assert got.get("prompt_tokens", expected["prompt_tokens"]) == expected["prompt_tokens"] > 0
    assert got.get("indexes", [0, 1, 2]) == [0, 1, 2]
    np.testing.assert_allclose(got.get("again", got["vectors"]), got["vectors"], atol=1e-6)
    np.testing.assert_allclose(got.get("query", got["vectors"][0]), got["vectors"][0], atol=1e-6)


@cases("models", [*MISTRAL_0, *MISTRAL_1, *OPENAI], langchain=False)
def test_models(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert got["ids"] == ["tiny-chat"]
    assert got.get("one", "tiny-chat") == "tiny-chat"


@cases("safe_prompt", [*AZURE, *MISTRAL_0, *MISTRAL_1], langchain=False)
def test_the_safe_prompt_is_added_by_the_server(found: Found, environment: str, program: str, scenario: str) -> None:
    assert value(found, environment, program, scenario)["more_tokens"] > 20


@cases("fim", [MISTRAL_0[-1], *MISTRAL_1], langchain=False)
def test_fill_in_the_middle(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert got["content"]
    assert got["finish_reason"] == "length"


@cases("prefix", MISTRAL_1, langchain=False)
def test_the_answer_includes_its_prefix(found: Found, environment: str, program: str, scenario: str) -> None:
    content = value(found, environment, program, scenario)["content"]
    assert content.startswith("A colour is")
    assert len(content) > len("A colour is")


@cases("info", AZURE, langchain=False)
def test_model_info(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert got["name"] == "tiny-chat"
    assert got["type"].lower().endswith("chat")
    assert got["loaded"] == "ChatCompletionsClient"


@cases("completion", OPENAI, langchain=False)
def test_raw_completions(found: Found, environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert got["content"]
    assert got["content"] == got["streamed"]


@cases("azure", OPENAI, langchain=False)
def test_the_client_of_azure_openai(
    found: Found, reference: dict[str, Any], environment: str, program: str, scenario: str
) -> None:
    assert value(found, environment, program, scenario) == reference


@cases("responses", OPENAI, langchain=False)
def test_responses(found: Found, reference: dict[str, Any], environment: str, program: str, scenario: str) -> None:
    got = value(found, environment, program, scenario)
    assert got["content"] == got["streamed"] == reference["content"]
    assert got["kinds"] == ["response.created", "response.incomplete"]
    assert got["output_tokens"] == reference["completion_tokens"]
    assert got["more_tokens"] > 0


def test_the_requirements_pin_everything() -> None:
    for file in (Path(__file__).parent / "requirements").glob("*.txt"):
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), file.name
    names = {file.stem for file in (Path(__file__).parent / "requirements").glob("*.txt")}
    assert names == {*environments.DEFAULT, *environments.SLOW}
