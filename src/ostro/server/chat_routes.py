"""Chat, for OpenAI, Mistral and Azure: one handler, since their answers have one form."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ostro.server.apart import apart, large_answer
from ostro.server.chat_answer import ChatChunks, chat_completion
from ostro.server.chat_engine import Run, start_chat
from ostro.server.chat_jobs import chat_job
from ostro.server.chunks import Head, chunk_frames
from ostro.server.context import ServerContext, json_answer
from ostro.server.delivery import begun, whole
from ostro.server.forms import CHAT_FORMS, CommonChat
from ostro.server.notes import note
from ostro.server.requests import ask
from ostro.server.sampling import in_words_of
from ostro.server.sse import EventStream, unless_gone


async def chat(server: ServerContext, request: Request) -> Response:
    """`POST .../chat/completions`."""
    asked = await ask(request, CommonChat, server.settings, CHAT_FORMS)
    given = asked.given()
    service = await server.service(request, given.get("model"))
    job = await apart(asked.size, chat_job, given, service.llm.default_params, server.settings)
    stream, limit = given.get("stream", False), server.settings.max_tokens_limit
    with in_words_of(given):
        run = await unless_gone(request, start_chat(service, job, max_tokens_limit=limit, final_only=not stream))
    options = given.get("stream_options")
    return await chat_response(
        request,
        run,
        stream=stream,
        include_usage=bool(options and options.include_usage),
        headers=asked.headers,
    )


async def chat_response(
    request: Request, run: Run, *, stream: bool, include_usage: bool, headers: dict[str, str]
) -> Response:
    """A run's answer as a chat completion, whole or in chunks."""
    note(request.scope, stream=stream)
    head, tokenizer = Head(run.service.name), run.service.llm.tokenizer
    if not stream:
        choices, usage = await whole(request, run.events(), run.cancel)
        if run.params.logprobs is not None:
            return await large_answer(partial(chat_completion, head, choices, usage, tokenizer), headers)
        return json_answer(chat_completion(head, choices, usage, tokenizer), headers)
    events = await begun(request, run.events(), run.cancel)
    writer = ChatChunks(head, tokenizer, include_usage=include_usage, num_choices=run.params.n)
    return EventStream(chunk_frames(writer, events), on_close=run.cancel, headers=headers)
