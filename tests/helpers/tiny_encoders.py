"""Tiny random encoders of every family, written by transformers, in folders as sentence-transformers lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["the", "tower", "is", "in", "paris", "a", "cat", "sat", "on", "mat", "##s", "query", "passage", ":", ",", "."]
CLS, PAD, SEP = 0, 1, 2  # where RoBERTa and MPNet have them: their positions count from behind the padding token
WORDPIECE = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *WORDS]
TEXTS = ["the tower is in paris.", "a cat", "the cats sat on the mats, the cat is in the tower .", "[SEP] a mat"]

COMMON: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 320,
    "initializer_range": 0.3,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", COMMON),
    "roberta": ("Roberta", {**COMMON, "pad_token_id": PAD, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", {**COMMON, "pad_token_id": PAD, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "mpnet": ("MPNet", COMMON),
    "distilbert": (
        "DistilBert",
        {
            "vocab_size": 40, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 320,
            "initializer_range": 0.3,
        },
    ),
}  # fmt: skip


def make_encoder(family: str, **changes: Any) -> Any:
    """A random transformers model of the family, float32, always the same one."""
    import transformers

    name, numbers = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**numbers, **changes})
    torch.manual_seed(99)
    model = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms start at one and biases at zero, where mistakes would not be seen
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def write_tokenizer(folder: Path, **settings: Any) -> None:
    """A WordPiece tokenizer.json with [CLS] and [SEP] around a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDPIECE)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.add_special_tokens(WORDPIECE[:5])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30, **settings}))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def save_embedder(
    folder: Path,
    family: str = "bert",
    *,
    pooling: Any = "mean",
    prompts: dict[str, str] | None = None,
    max_seq_length: int | None = None,
    extra: list[str] | None = None,
    **changes: Any,
) -> Any:
    """A folder with encoder, tokenizer, modules.json and pooling; the transformers model in it."""
    model = make_encoder(family, **changes)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if extra is None else extra)]
    paths = ["", *(f"{place}_{kind}" for place, kind in enumerate(kinds) if place)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 24, "pooling_mode": pooling})
    if max_seq_length is not None:
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_seq_length, "do_lower_case": False})
    if prompts is not None:
        write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    return model


def hidden_states(model: Any, ids: list[int]) -> Any:
    """What the encoder makes of one text: (T, D)."""
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0].numpy()
