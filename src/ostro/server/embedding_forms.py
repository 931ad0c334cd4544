"""What the clients of the three dialects send to `/v1/embeddings` and `/images/embeddings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ostro.server.chat_fields import LABEL, MODEL, JsonObject
from ostro.server.dialect import Dialect
from ostro.server.fields import Body, Honoured, Refused

_ENCODING = Honoured("float: numbers; base64: little-endian float32.")
_INPUT = Honoured(
    "A text, a list of texts, or token ids of cl100k_base, OpenAI's vocabulary, which are read as their text."
)


class EmbeddingFields(Body):
    """What the dialects have in common."""

    input: Annotated[str | list[Any], _INPUT]
    model: Annotated[str | None, MODEL] = None
    encoding_format: Annotated[Literal["float", "base64"] | None, _ENCODING] = None


class OpenAIEmbedding(EmbeddingFields):
    """OpenAI's body."""

    dimensions: Annotated[
        int | None, Field(ge=1), Honoured("Shorter vectors, of a size for which the model was trained.")
    ] = None
    user: Annotated[str | None, LABEL] = None


class MistralEmbedding(EmbeddingFields):
    """Mistral's body."""

    output_dimension: Annotated[int | None, Field(ge=1), Honoured("The same as dimensions.")] = None
    output_dtype: Annotated[Any, Refused("vectors are given as float32.", ("float",))] = None
    metadata: Annotated[JsonObject | None, LABEL] = None


class AzureEmbedding(EmbeddingFields):
    """Azure's body."""

    dimensions: Annotated[
        int | None, Field(ge=1), Honoured("Shorter vectors, of a size for which the model was trained.")
    ] = None
    input_type: Annotated[
        Literal["text", "query", "document"] | None, Honoured("What the texts are to a search, where the model knows.")
    ] = None


class CommonEmbedding(OpenAIEmbedding, MistralEmbedding, AzureEmbedding):
    """The fields of all of them, and ostro's."""

    truncate: Annotated[
        bool | None, Honoured("True: the end of a text that is too long is left out, and a header says of which.")
    ] = None


class ImageEmbedding(Body):
    """Azure's `/images/embeddings`."""

    input: Annotated[Any, Refused("the embedding models served here read text alone: use /embeddings.")] = None
    model: Annotated[str | None, MODEL] = None


EMBEDDING_FORMS: Mapping[Dialect, type[Body]] = {
    "openai": OpenAIEmbedding,
    "mistral": MistralEmbedding,
    "azure": AzureEmbedding,
    "common": CommonEmbedding,
}
