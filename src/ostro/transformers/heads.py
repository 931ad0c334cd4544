"""What stands on the decoder: a language model's output matrix, and classifiers of sequences and of tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ostro.errors import RequestError
from ostro.models import llama
from ostro.ops.torch import TorchOps
from ostro.transformers.cache_utils import Past
from ostro.transformers.configuration import PreTrainedConfig
from ostro.transformers.generation import GenerationMixin
from ostro.transformers.modeling import DecoderModel, PreTrainedModel
from ostro.transformers.modules import linear
from ostro.transformers.outputs import (
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)


class Head(PreTrainedModel):
    """A model with a decoder under the name `model`."""

    decoder_class: ClassVar[type[DecoderModel]]

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.decoder_class(config)


class ForCausalLM(Head, GenerationMixin):
    """A language model: the decoder and `lm_head`, which is the embeddings themselves where the config ties them."""

    has_lm_head = True

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.lm_head = linear(config.hidden_size, config.vocab_size)
        self.init_module(self.lm_head)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the output matrix the embeddings themselves, where the config ties them."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Past = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Scores of the next token: logits (B, T, V); other arguments as `DecoderModel.forward` has them.

        `labels` (B, T): the loss is the mean cross entropy of each label given the tokens before it; -100 is left out,
        and with `num_items_in_batch` the sum is divided by that instead, as gradient accumulation needs.
        `logits_to_keep` computes logits of the last so many tokens only (0: all), or of those an index (N,) selects.
        """
        if labels is not None and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            raise RequestError(
                "labels need the logits of all tokens: leave logits_to_keep out.", param="logits_to_keep"
            )
        inner = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds,
            use_cache, output_attentions, output_hidden_states, True,
        )  # fmt: skip
        hidden = inner.last_hidden_state
        if isinstance(logits_to_keep, torch.Tensor):
            hidden = hidden[:, logits_to_keep]
        elif logits_to_keep:
            hidden = hidden[:, -logits_to_keep:]
        ops = TorchOps(device=hidden.device, dtype=hidden.dtype)
        rows = llama.logits(ops, self.model.weights(self.lm_head), hidden.reshape(-1, hidden.shape[-1]))
        logits = rows.reshape(*hidden.shape[:2], -1)
        loss = None if labels is None else causal_loss(logits, labels, num_items_in_batch)
        output = CausalLMOutputWithPast(loss, logits, inner.past_key_values, inner.hidden_states, inner.attentions)
        return output if self.wants_dict(return_dict) else output.to_tuple()


class ForSequenceClassification(Head):
    """A classifier of whole sequences: `score` on the hidden state of each row's last token that is not padding."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.score = linear(config.hidden_size, config.num_labels)
        self.init_module(self.score)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Past = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutputWithPast | tuple[Any, ...]:
        """Logits (B, num_labels).

        The last token is the last that is not `config.pad_token_id`, or, with `inputs_embeds`, the last that
        `attention_mask` shows; without either a batch of more than one row is refused. The loss is that of
        `config.problem_type`, which is found from labels and num_labels where it is not set: "regression",
        "single_label_classification" or "multi_label_classification".
        """
        inner = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds,
            use_cache, output_attentions, output_hidden_states, True,
        )  # fmt: skip
        hidden = inner.last_hidden_state
        rows = torch.arange(len(hidden), device=hidden.device)
        pooled = hidden[rows, self._last_tokens(input_ids, attention_mask, hidden)]
        logits = self.score(pooled)
        loss = None if labels is None else classification_loss(logits, labels, self.config)
        output = SequenceClassifierOutputWithPast(
            loss, logits, inner.past_key_values, inner.hidden_states, inner.attentions
        )
        return output if self.wants_dict(return_dict) else output.to_tuple()

    def _last_tokens(
        self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, hidden: torch.Tensor
    ) -> torch.Tensor:
        pad = self.config.pad_token_id
        if input_ids is not None and pad is not None:
            shown = input_ids != pad
        elif input_ids is None and attention_mask is not None:
            shown = attention_mask[:, -hidden.shape[1] :] != 0
        elif len(hidden) == 1:
            return torch.tensor([-1], device=hidden.device)
        else:
            raise RequestError(
                f"A batch of {len(hidden)} rows needs to know its padding: set model.config.pad_token_id"
                f"{'' if input_ids is not None else ', or give an attention_mask'}.",
                param="pad_token_id",
            )
        places = torch.arange(hidden.shape[1], device=hidden.device)
        return (places * shown).argmax(dim=-1)


class ForTokenClassification(Head):
    """A classifier of tokens: dropout and `score`, which has a bias, on every hidden state."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.dropout = nn.Dropout(0.1 if config.classifier_dropout is None else config.classifier_dropout)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.init_module(self.score)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Past = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Logits (B, T, num_labels); `labels` (B, T) give the mean cross entropy, -100 left out."""
        inner = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds,
            use_cache, output_attentions, output_hidden_states, True,
        )  # fmt: skip
        logits = self.score(self.dropout(inner.last_hidden_state))
        loss = None if labels is None else cross_entropy(logits, labels)
        output = TokenClassifierOutput(loss, logits, inner.hidden_states, inner.attentions)
        return output if self.wants_dict(return_dict) else output.to_tuple()


def causal_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Cross entropy (scalar) of labels (B, T), each given the logits (B, T, V) of the token before it, in float32."""
    return cross_entropy(logits[:, :-1], labels[:, 1:], num_items)


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over labels that are not -100, or their sum divided by `num_items`."""
    if labels.shape != logits.shape[:-1]:
        raise RequestError(
            f"labels must have the shape of the tokens, not {tuple(labels.shape)} for logits {tuple(logits.shape)}.",
            param="labels",
        )
    flat = logits.reshape(-1, logits.shape[-1]).to(torch.promote_types(logits.dtype, torch.float32))
    target = labels.reshape(-1).to(logits.device)
    if num_items is None:
        return F.cross_entropy(flat, target, ignore_index=-100)
    return F.cross_entropy(flat, target, ignore_index=-100, reduction="sum") / num_items


def classification_loss(logits: torch.Tensor, labels: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """The loss of a problem type on logits (B, num_labels); see `ForSequenceClassification.forward`."""
    kind = config.problem_type or _problem_type(labels, config.num_labels)
    labels = labels.to(logits.device)
    if kind == "regression":
        return F.mse_loss(logits.squeeze(), labels.squeeze().to(logits.dtype))
    if kind == "single_label_classification":
        return cross_entropy(logits, labels.reshape(-1))
    if kind == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels)
    raise RequestError(
        f"problem_type {kind!r} is not known; choose regression, single_label_classification or "
        "multi_label_classification.",
        param="problem_type",
    )


def _problem_type(labels: torch.Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
