"""`/v1/fim/completions`: the text in a gap, given as a chat completion."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ostro.chat.fim import fim_prompt
from ostro.server.chat_engine import start_text
from ostro.server.chat_routes import chat_response
from ostro.server.context import ServerContext
from ostro.server.jobs import TextJob
from ostro.server.mistral.forms import MistralFIM
from ostro.server.requests import ask
from ostro.server.sampling import in_words_of, sampling_params
from ostro.server.sse import unless_gone


async def fim(server: ServerContext, request: Request) -> Response:
    """Fill the gap between `prompt` and `suffix`."""
    asked = await ask(request, MistralFIM, server.settings)
    given = asked.given()
    service = await server.service(request, given.get("model"))
    job = TextJob(
        prompt=fim_prompt(service.llm.tokenizer, given["prompt"], given.get("suffix")),
        params=sampling_params(given, service.llm.default_params, server.settings),
        cache_salt=given.get("cache_salt", ""),
    )
    stream, limit = given.get("stream", False), server.settings.max_tokens_limit
    with in_words_of(given):
        run = await unless_gone(request, start_text(service, job, max_tokens_limit=limit, final_only=not stream))
    return await chat_response(request, run, stream=stream, include_usage=False, headers=asked.headers)
