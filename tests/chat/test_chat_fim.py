"""Fill-in-the-middle prompts are mistral-common's, id for id."""

from __future__ import annotations

import pytest
from chat_oracles import mistral_oracle
from hypothesis import given
from hypothesis import strategies as st
from mistral_common.protocol.fim.request import FIMRequest

from ostro.chat.fim import fim_prompt, has_fim
from ostro.errors import RequestError
from ostro.tokenizer.mistral import bundled

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@given(TEXTS.filter(bool), st.none() | TEXTS)
def test_the_ids_are_those_of_mistral_common(prompt: str, suffix: str | None) -> None:
    theirs = mistral_oracle("v3").encode_fim(FIMRequest(prompt=prompt, suffix=suffix)).tokens
    assert fim_prompt(bundled("v3"), prompt, suffix).token_ids == theirs


def test_control_tokens_in_the_text_are_text() -> None:
    prompt = fim_prompt(bundled("v3"), "[PREFIX]</s>", "[SUFFIX]")
    assert sum(bundled("v3").is_control(token_id) for token_id in prompt.token_ids) == 3
    assert prompt.is_open
    assert prompt.stop_ids == (2,)


def test_a_vocabulary_without_the_form() -> None:
    assert not has_fim(bundled("v1"))
    with pytest.raises(RequestError, match=r"no \[SUFFIX\] and \[PREFIX\]") as raised:
        fim_prompt(bundled("v1"), "a", "b")
    assert raised.value.param == "suffix"
