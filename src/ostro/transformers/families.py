"""The classes of the three families. They differ in their config alone."""

from __future__ import annotations

from ostro.transformers.configuration import LlamaConfig, MistralConfig, MixtralConfig
from ostro.transformers.heads import ForCausalLM, ForSequenceClassification, ForTokenClassification
from ostro.transformers.modeling import DecoderModel


class MistralModel(DecoderModel):
    """Mistral's decoder."""

    config_class = MistralConfig


class MistralForCausalLM(ForCausalLM):
    """Mistral as a language model."""

    config_class = MistralConfig
    decoder_class = MistralModel


class MistralForSequenceClassification(ForSequenceClassification):
    """Mistral as a classifier of sequences."""

    config_class = MistralConfig
    decoder_class = MistralModel


class MistralForTokenClassification(ForTokenClassification):
    """Mistral as a classifier of tokens."""

    config_class = MistralConfig
    decoder_class = MistralModel


class MixtralModel(DecoderModel):
    """Mixtral's decoder."""

    config_class = MixtralConfig


class MixtralForCausalLM(ForCausalLM):
    """Mixtral as a language model."""

    config_class = MixtralConfig
    decoder_class = MixtralModel


class MixtralForSequenceClassification(ForSequenceClassification):
    """Mixtral as a classifier of sequences."""

    config_class = MixtralConfig
    decoder_class = MixtralModel


class MixtralForTokenClassification(ForTokenClassification):
    """Mixtral as a classifier of tokens."""

    config_class = MixtralConfig
    decoder_class = MixtralModel


class LlamaModel(DecoderModel):
    """Llama's decoder."""

    config_class = LlamaConfig


class LlamaForCausalLM(ForCausalLM):
    """Llama as a language model."""

    config_class = LlamaConfig
    decoder_class = LlamaModel


class LlamaForSequenceClassification(ForSequenceClassification):
    """Llama as a classifier of sequences."""

    config_class = LlamaConfig
    decoder_class = LlamaModel


class LlamaForTokenClassification(ForTokenClassification):
    """Llama as a classifier of tokens."""

    config_class = LlamaConfig
    decoder_class = LlamaModel
