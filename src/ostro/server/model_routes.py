"""What is served: `/v1/models` for everybody, `/info` for Azure."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ostro.chat.fim import has_fim
from ostro.errors import OstroError, PromptError
from ostro.server.chat_engine import chat_format
from ostro.server.context import ServerContext, json_answer
from ostro.server.models import ModelCard
from ostro.server.service import ModelService


async def list_models(server: ServerContext, request: Request) -> Response:
    """All models, those for embeddings at the end."""
    del request  # mistralai 0.x sends a body with this GET, which says nothing
    cards = [card_body(card, **await _abilities(server, card)) for card in server.models.cards()]
    names = {card["id"] for card in cards}
    cards += [_embedder_card(name) for name in server.embedders.names if name not in names]
    return json_answer({"object": "list", "data": cards})


async def one_model(server: ServerContext, request: Request) -> Response:
    """One of them, by its name or an alias."""
    name = request.path_params["model"]
    if name in server.embedders.names:
        return json_answer(_embedder_card(name))
    card = server.models.card(name)
    return json_answer(card_body(card, **await _abilities(server, card)))


async def info(server: ServerContext, request: Request) -> Response:
    """What azure-ai-inference asks before it chooses a client; all its versions know the word chat."""
    del request
    if server.models.default is None:
        return json_answer({"model_name": server.embedders.names[0], **_INFO, "model_type": "embeddings"})
    card = server.models.card(None)
    return json_answer({"model_name": card.id, **_INFO, "model_type": "chat"})


_INFO = {"model_provider_name": "ostro"}
_ABILITIES = ("completion_chat", "completion_fim", "function_calling", "fine_tuning", "vision")


def card_body(card: ModelCard, *, chat: bool, tools: bool, fim: bool) -> dict[str, Any]:
    """A model as all clients read it; Mistral's need the type, the capabilities and a number in `created`."""
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "ostro",
        "name": card.id,
        "type": "base",
        "aliases": [alias for alias in card.aliases if alias != "*"],
        "permission": [],
        "root": card.parent or card.id,
        "parent": card.parent,
        **({} if card.max_model_len is None else {"max_context_length": card.max_model_len}),
        "capabilities": dict.fromkeys(_ABILITIES, False)
        | {"completion_chat": chat, "completion_fim": fim, "function_calling": tools},
    }


async def _abilities(server: ServerContext, card: ModelCard) -> dict[str, bool]:
    """What a model can do, as far as it is known: one that is not loaded is taken for a chat model."""
    for service in server.models.services:
        if service.name == (card.parent or card.id):
            return _abilities_of(service)
    return {"chat": True, "tools": True, "fim": False}


def _abilities_of(service: ModelService) -> dict[str, bool]:
    try:
        fim = has_fim(service.llm.tokenizer)
    except OstroError:  # without a tokenizer it continues token ids and nothing else
        return {"chat": False, "tools": False, "fim": False}
    try:
        return {"chat": True, "tools": chat_format(service).rules.tools, "fim": fim}
    except PromptError:  # a base model
        return {"chat": False, "tools": False, "fim": fim}


def _embedder_card(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "ostro",
        "name": name,
        "type": "base",
        "aliases": [],
        "permission": [],
        "root": name,
        "parent": None,
        "capabilities": dict.fromkeys(_ABILITIES, False),
    }
