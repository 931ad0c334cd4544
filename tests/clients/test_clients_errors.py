"""Every refusal surfaces as the client's own exception, and says in its text what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_clients import AZURE, MISTRAL_0, MISTRAL_1, OPENAI, SLOW, value

Found = Callable[[str, str], dict[str, Any]]

SAYS = {
    "400": "temperature|max_",
    "401": "API key",
    "404": "no-such-model",
    "413": "larger than",
    "422": "temperature|max_",
    "429": "queue is full",
    "503": "being stopped",
    "context": "maximum context length is",
}
"""Words of the message that each error must carry."""

AZURE_TYPES = {"401": "ClientAuthenticationError", "404": "ResourceNotFoundError"}
OPENAI_TYPES = {
    "400": "BadRequestError",
    "401": "AuthenticationError",
    "404": "NotFoundError",
    "413": "APIStatusError",
    "422": "UnprocessableEntityError",
    "429": "RateLimitError",
    "503": "InternalServerError",
    "context": "BadRequestError",
}
LANGCHAIN_TYPES = OPENAI_TYPES | {"context": "ContextOverflowError"}
LITELLM_TYPES = OPENAI_TYPES | {
    "413": "APIError",
    "422": "BadRequestError|UnprocessableEntityError|APIError",
    "503": "ServiceUnavailableError|InternalServerError",
    "context": "ContextWindowExceededError",
}
MISTRAL_1_TYPES = {"422": "HTTPValidationError"}

CASES = [
    *((environment, program, "errors", AZURE_TYPES, "HttpResponseError") for environment, program in AZURE),
    *((environment, program, "errors", {}, "MistralException") for environment, program in MISTRAL_0),
    *((environment, program, "errors", MISTRAL_1_TYPES, "SDKError|MistralError") for environment, program in MISTRAL_1),
    *((environment, program, "errors", OPENAI_TYPES, "") for environment, program in OPENAI),
    ("current", "langchain", "openai_errors", LANGCHAIN_TYPES, ""),
    ("current", "langchain", "mistral_errors", {}, "HTTPStatusError"),
    ("current", "litellm_sdk", "errors", LITELLM_TYPES, ""),
]
PARAMETERS = [
    pytest.param(*case, id="-".join(case[:3]), marks=[pytest.mark.slow] if case[0] in SLOW else []) for case in CASES
]


@pytest.mark.parametrize("kind", SAYS)
@pytest.mark.parametrize(("environment", "program", "scenario", "types", "default"), PARAMETERS)
def test_errors(
    found: Found, environment: str, program: str, scenario: str, types: dict[str, str], default: str, kind: str
) -> None:
    error = value(found, environment, program, scenario)[kind]
    expected = types.get(kind, default).split("|")
    assert set(expected) & set(error["types"]), error
    assert any(words in error["message"] for words in SAYS[kind].split("|")), error
    if error["status"] is not None:
        assert int(error["status"]) == (400 if kind == "context" else int(kind)), error


@pytest.mark.parametrize(("environment", "program", "scenario", "types", "default"), PARAMETERS)
def test_an_answer_that_breaks_off_is_an_error(
    found: Found, environment: str, program: str, scenario: str, types: dict[str, str], default: str
) -> None:
    """No client may take the beginning of an answer for the whole."""
    error = value(found, environment, program, scenario)["midstream"]
    assert error["types"], error
