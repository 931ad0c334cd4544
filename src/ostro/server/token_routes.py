"""The prompt laid open: `/tokenize`, `/detokenize`, and `/render` for the final prompt of a chat request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ostro.server.apart import apart, large_answer
from ostro.server.chat_engine import render_job
from ostro.server.chat_jobs import chat_job
from ostro.server.context import ServerContext
from ostro.server.errors import FieldError
from ostro.server.forms import CHAT_FORMS, CommonChat
from ostro.server.jobs import ChatJob
from ostro.server.requests import ask
from ostro.server.service import Service
from ostro.server.token_forms import Detokenize, Tokenize


async def tokenize(server: ServerContext, request: Request) -> Response:
    """Token ids, how many they are, and each as a person may read it."""
    asked = await ask(request, Tokenize, server.settings)
    given = asked.given()
    _check_tokenize(given)
    service = await server.service(request, given.get("model"))
    return await large_answer(partial(_tokenized, service, given, server), asked.headers, size=asked.size)


async def detokenize(server: ServerContext, request: Request) -> Response:
    """The text of token ids."""
    asked = await ask(request, Detokenize, server.settings)
    given = asked.given()
    service = await server.service(request, given.get("model"))
    return await large_answer(partial(_detokenized, service, given), asked.headers, size=asked.size)


def _tokenized(service: Service, given: Mapping[str, Any], server: ServerContext) -> dict[str, Any]:
    llm = service.llm
    ids = _ids(service, given, server)
    pieces = [llm.tokenizer.piece(token_id) for token_id in ids]
    return {"model": service.name, "count": len(ids), "max_model_len": llm.max_model_len, "tokens": ids,
            "pieces": pieces}  # fmt: skip


def _detokenized(service: Service, given: Mapping[str, Any]) -> dict[str, Any]:
    tokenizer = service.llm.tokenizer
    for index, token_id in enumerate(given["tokens"]):
        if not 0 <= token_id < tokenizer.vocab_size:
            raise FieldError(
                f"tokens[{index}] is {token_id}; the ids go from 0 to {tokenizer.vocab_size - 1}.",
                param=f"tokens[{index}]",
            )
    keep_control = not given.get("skip_special_tokens", True)
    return {"model": service.name, "prompt": tokenizer.decode(given["tokens"], keep_control=keep_control)}


async def render(server: ServerContext, request: Request) -> Response:
    """What the model would read for a chat request: ids, text, where each part came from, and what was mended."""
    asked = await ask(request, CommonChat, server.settings, CHAT_FORMS)
    given = asked.given()
    service = await server.service(request, given.get("model"))
    job = await apart(asked.size, chat_job, given, service.llm.default_params, server.settings)
    return await large_answer(partial(_rendered, service, job), asked.headers, size=asked.size)


def _rendered(service: Service, job: ChatJob) -> dict[str, Any]:
    prompt = render_job(service, job)
    segments = [
        {"kind": each.kind, "origin": each.origin, "text": each.text, "token_ids": list(each.ids)}
        for each in prompt.segments
    ]
    return {
        "model": service.name,
        "format": prompt.format_name,
        "count": len(prompt),
        "text": prompt.text,
        "token_ids": prompt.token_ids,
        "stop_token_ids": list(prompt.stop_ids),
        "repairs": list(prompt.repairs),
        "segments": segments,
    }


def _check_tokenize(given: Mapping[str, Any]) -> None:
    if ("prompt" in given) == ("messages" in given):
        raise FieldError("Give either prompt or messages.", param="prompt", code="missing_required_parameter")
    of_other = {"messages": ("add_special_tokens",), "prompt": ("tools", "safe_prompt")}
    for name, others in of_other.items():
        for other in others:
            if name in given and other in given:
                raise FieldError(f"{other} says nothing of {name}: leave it out.", param=other)


def _ids(service: Service, given: Mapping[str, Any], server: ServerContext) -> list[int]:
    llm = service.llm
    if "messages" in given:
        return render_job(service, chat_job(given, llm.default_params, server.settings)).token_ids
    if given.get("add_special_tokens", True):
        return llm.encode(given["prompt"]).token_ids
    return llm.tokenizer.encode(given["prompt"])
