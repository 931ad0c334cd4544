"""`/v1/embeddings`, for OpenAI, Mistral and Azure: one form of answer."""

from __future__ import annotations

import asyncio
import base64
import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ostro.embeddings import Embeddings
from ostro.errors import RequestError
from ostro.server.apart import large_answer
from ostro.server.context import ServerContext
from ostro.server.embedding_forms import EMBEDDING_FORMS, CommonEmbedding, ImageEmbedding
from ostro.server.errors import FieldError
from ostro.server.notes import note
from ostro.server.openai import cl100k
from ostro.server.openai.prompts import prompts_of
from ostro.server.requests import ask
from ostro.server.sampling import agreed
from ostro.server.sse import ClientGone, unless_gone

TRUNCATED_HEADER = "x-ostro-truncated-inputs"
"""The places of the texts whose end was left out."""

_LONGEST_HEADER = 1000


async def embeddings(server: ServerContext, request: Request) -> Response:
    """Vectors of texts."""
    asked = await ask(request, CommonEmbedding, server.settings, EMBEDDING_FORMS)
    given = asked.given()
    read = partial(prompts_of, given["input"], server.settings, "input")
    inputs = await asyncio.to_thread(lambda: _texts(read()))
    dimensions, name = agreed(given, "dimensions", "output_dimension")
    embedder = server.embedders.get(given.get("model"))
    note(request.scope, model=embedder.name)
    work = partial(
        embedder.embed,
        inputs,
        input_type=given.get("input_type", "text"),
        dimensions=dimensions,
        truncate=given.get("truncate", False),
    )
    try:
        made = await _unless_gone(request, server, work)
    except RequestError as error:
        raise error if error.param != "dimensions" else FieldError(str(error), param=name) from None
    note(request.scope, prompt_tokens=sum(made.num_tokens))
    cut = ", ".join(str(index) for index, was_cut in enumerate(made.truncated) if was_cut)
    if len(cut) > _LONGEST_HEADER:  # at a comma: half a number would be another one
        cut = f"{cut[:_LONGEST_HEADER].rpartition(',')[0]}, ..."
    headers = {**asked.headers, TRUNCATED_HEADER: cut} if cut else asked.headers
    encoding = given.get("encoding_format", "float")
    return await large_answer(partial(embedding_body, made, embedder.name, encoding), headers)


async def _unless_gone(request: Request, server: ServerContext, work: Callable[..., Embeddings]) -> Embeddings:
    """What comes of the work; ClientGone, and the work ends soon, when nobody waits for it any more."""
    is_over = threading.Event()

    def on_step() -> None:
        if is_over.is_set():
            raise ClientGone

    threads = server.embedders.threads
    working = asyncio.get_running_loop().run_in_executor(threads, partial(work, on_step=on_step))
    try:
        return await unless_gone(request, working)
    finally:
        is_over.set()


async def image_embeddings(server: ServerContext, request: Request) -> Response:
    """Refused: no model that is served embeds pictures."""
    await ask(request, ImageEmbedding, server.settings)
    raise FieldError("input is missing.", param="input", code="missing_required_parameter")


def _texts(inputs: list[str | list[int]]) -> list[str]:
    """The inputs as texts: ids, where there are any, are those of OpenAI's embedding models."""
    return [each if isinstance(each, str) else cl100k.decode(each, "input") for each in inputs]


def embedding_body(made: Embeddings, model: str, encoding_format: str) -> dict[str, Any]:
    """The answer. Mistral's clients need an id and a count of completion tokens, which there are none of."""
    num_tokens = sum(made.num_tokens)
    return {
        "id": f"embd-{secrets.token_hex(12)}",
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding_format)}
            for index, vector in enumerate(made.vectors)
        ],
        "usage": {"prompt_tokens": num_tokens, "completion_tokens": 0, "total_tokens": num_tokens},
    }


def _encoded(vector: Any, encoding_format: str) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(value) for value in vector]
