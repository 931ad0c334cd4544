"""Classification beside transformers' own heads, its labels, and its metrics beside plain counting."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny import COMMON, VARIANTS
from toy_tokenizer import toy

from ostro.errors import DataError
from ostro.finetune.classification import Classification, LabelBatch
from ostro.finetune.config import TrainConfig
from ostro.finetune.example_sets import ExampleSet
from ostro.finetune.labels import Labels, encode_labelled, spans
from ostro.finetune.metrics import read_metrics
from ostro.finetune.objective import Batch
from ostro.finetune.packing import PackedBatches
from ostro.finetune.records import LabelRecord, TokenLabelRecord
from ostro.finetune.row_batches import label_batch
from ostro.finetune.trainer import Trainer
from ostro.transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

NAMES = ("bad", "good", "so-so")
TOKENIZER = toy()  # bytes


def theirs_of(kind: str, folder: Path, num_labels: int) -> Any:
    numbers = {**COMMON, **VARIANTS["mistral-7b-v0.1"][1], "num_hidden_layers": 2, "initializer_range": 0.1}
    torch.manual_seed(4)
    config = transformers.MistralConfig(**numbers, num_labels=num_labels, pad_token_id=0, classifier_dropout=0.0)
    model = getattr(transformers, f"MistralFor{kind}Classification")(config)
    model.save_pretrained(folder)
    return model


def batches(kind: str, count: int, num_labels: int) -> list[tuple[LabelBatch, dict[str, torch.Tensor]]]:
    """The same rows as we have them and as transformers has them."""
    generator = torch.Generator().manual_seed(9)
    out = []
    for _ in range(count):
        ids = torch.randint(3, 101, (3, 13), generator=generator)
        lengths = torch.tensor([13, 7, 4])
        places = torch.arange(13).expand(3, -1)
        there = places < lengths[:, None]
        ids = ids * there
        marked = places == lengths[:, None] - 1 if kind == "Sequence" else there & (ids % 3 > 0)
        labels = torch.randint(0, num_labels, (int(marked.sum()),), generator=generator)
        given = labels
        if kind == "Token":
            given = torch.full((3, 13), -100)
            given[marked] = labels
        rows = Batch(ids, places.contiguous(), marked.float())
        out.append((LabelBatch(rows, labels), {"input_ids": ids, "attention_mask": there.long(), "labels": given}))
    return out


@pytest.mark.parametrize(
    ("kind", "ours_of"),
    [("Sequence", AutoModelForSequenceClassification), ("Token", AutoModelForTokenClassification)],
)
def test_twenty_steps_are_those_of_transformers(kind: str, ours_of: Any, tmp_path: Path) -> None:
    theirs = theirs_of(kind, tmp_path, 3)
    ours = ours_of.from_pretrained(tmp_path).train()
    objective = Classification(Labels(NAMES))
    made = batches(kind, 2, 3)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01) for model in (ours, theirs)]
    seen = []
    for step in range(20):
        mine, his = made[step % 2]
        output = objective.loss(ours, mine)
        (output.loss / output.weight).backward()
        wanted = theirs(**his).loss
        wanted.backward()
        assert output.loss.item() / output.weight == pytest.approx(wanted.item(), abs=1e-4)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seen.append(wanted.item())
    assert seen[-1] < 0.5 * seen[0]


def test_metrics_are_plain_counting() -> None:
    drawn = random.Random(2)
    labels = Labels(("B-LOC", "B-PER", "I-LOC", "I-PER", "O"))
    assert labels.are_spans
    objective = Classification(labels)
    wanted, predicted = ([[drawn.randrange(5) for _ in range(n)] for n in (9, 4, 7, 0, 1)] for _ in range(2))

    class Model:  # whose logits say what was drawn
        def __init__(self, rows: list[list[int]]) -> None:
            self.flat = torch.tensor([n for row in rows for n in row])

        def model(self, input_ids: torch.Tensor, **_: Any) -> Any:
            self.last_hidden_state = torch.zeros(*input_ids.shape, 2)
            return self

        def score(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(self.flat, 5).float()

    def batch(rows: list[list[int]]) -> LabelBatch:
        weights = torch.zeros(len(rows), 10)
        for number, row in enumerate(rows):
            weights[number, 1 : 1 + len(row)] = 1
        ids = torch.zeros(len(rows), 10, dtype=torch.int64)
        return LabelBatch(Batch(ids, ids, weights), torch.tensor([n for row in rows for n in row]))

    sums: dict[str, float] = {}
    weight = 0.0
    for part in (slice(0, 2), slice(2, 5)):  # in two micro batches, whose counts are added
        output = objective.loss(Model(predicted[part]), batch(wanted[part]))
        weight += output.weight
        for key, value in output.metrics.items():
            sums[key] = sums.get(key, 0) + value
    found = objective.summarize(sums, weight)
    w, p = ([n for row in side for n in row] for side in (wanted, predicted))
    assert found["accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(w, p, strict=True)]))
    scores = []
    for label in sorted({*w, *p}):
        hits = sum(a == b == label for a, b in zip(w, p, strict=True))
        precision, recall = (hits / side.count(label) if side.count(label) else 0 for side in (p, w))
        scores.append(2 * precision * recall / (precision + recall) if hits else 0)
    assert found["f1"] == pytest.approx(np.mean(scores))
    named = [[spans([labels.names[n] for n in row]) for row in side] for side in (wanted, predicted)]
    hits = sum(len(a & b) for a, b in zip(*named, strict=True))
    of = [sum(map(len, side)) for side in named]
    assert found["span_f1"] == pytest.approx(2 * hits / sum(of))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("O O", set()),
        ("B-A I-A I-A", {(0, 3, "A")}),
        ("B-A B-A", {(0, 1, "A"), (1, 2, "A")}),
        ("I-A O I-B I-A", {(0, 1, "A"), (2, 3, "B"), (3, 4, "A")}),
        ("B-A I-B", {(0, 1, "A"), (1, 2, "B")}),
    ],
)
def test_spans(names: str, found: set[tuple[int, int, str]]) -> None:
    assert spans(names.split()) == found


def test_labels_are_ordered_and_numbered() -> None:
    assert Labels.of([LabelRecord("a", "z", "1"), LabelRecord("b", "y", "2")]).names == ("y", "z")
    assert Labels.of([LabelRecord("a", n, "1") for n in (10, 2, 2)]).names == ("2", "10")
    assert not Labels(("B-", "O")).are_spans
    assert not Labels(("O", "P")).are_spans
    labels = Labels(NAMES)
    assert labels.encode(TokenLabelRecord(("a", "b"), ("good", "bad"), "x")).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"eval.jsonl, line 3: the label 'great'.*bad, good, so-so.*classify.labels"):
        labels.encode(LabelRecord("a", "great", "eval.jsonl, line 3"))
    with pytest.raises(DataError, match="same label"):
        Labels.of([LabelRecord("a", "good", "1")] * 2)


def test_a_text_is_classified_at_its_last_token() -> None:
    (example,) = encode_labelled(LabelRecord("abc", "x", "here"), TOKENIZER, max_length=10)
    assert example.token_ids.tolist() == [TOKENIZER.bos_id, *b"abc"]
    assert example.is_trained.tolist() == [False, False, False, True]
    (cut,) = encode_labelled(LabelRecord("abc", "x", "here"), TOKENIZER, max_length=3, overlong="truncate")
    assert (cut.token_ids.tolist(), cut.is_trained.tolist()) == ([TOKENIZER.bos_id, *b"ab"], [False, False, True])
    assert encode_labelled(LabelRecord("abc", "x", "here"), TOKENIZER, max_length=3, overlong="drop") == ()
    with pytest.raises(DataError, match="here has 4 tokens, and max_length is 3"):
        encode_labelled(LabelRecord("abc", "x", "here"), TOKENIZER, max_length=3)
    with pytest.raises(DataError, match="the text is empty"):
        encode_labelled(LabelRecord(" ", "x", "here"), TOKENIZER, max_length=3)


def test_a_word_is_classified_at_its_last_token() -> None:
    record = TokenLabelRecord(("ab", "c", "def"), ("O", "O", "B-X"), "here")
    (example,) = encode_labelled(record, TOKENIZER, max_length=20)
    assert bytes(example.token_ids[1:].tolist()) == b"ab c def"
    assert np.flatnonzero(example.is_trained).tolist() == [2, 4, 8]
    (cut,) = encode_labelled(record, TOKENIZER, max_length=7, overlong="truncate")
    assert np.flatnonzero(cut.is_trained).tolist() == [2, 4]  # "def" is not there whole
    with pytest.raises(DataError, match=r"words\[1\] is empty"):
        encode_labelled(TokenLabelRecord(("a", " "), ("O", "O"), "here"), TOKENIZER, max_length=9)
    with pytest.raises(DataError, match="no words"):
        encode_labelled(TokenLabelRecord((), (), "here"), TOKENIZER, max_length=9)


@pytest.mark.parametrize("kind", ["text", "words"])
def test_it_learns_what_can_be_learnt(kind: str, tmp_path: Path) -> None:
    """Whether a text has an exclamation mark; which words begin with a capital."""
    drawn = random.Random(1)
    words = [["".join(drawn.choices("ab", k=2)).title() if drawn.random() < 0.4 else "ab" for _ in range(4)]
             for _ in range(24)]  # fmt: skip
    records: Any = [
        TokenLabelRecord(tuple(row), tuple("B-N" if word[0].isupper() else "O" for word in row), "-")
        if kind == "words"
        else LabelRecord(" ".join(row) + "!?"[number % 2], "!?"[number % 2], "-")
        for number, row in enumerate(words)
    ]
    labels = Labels.of(records)
    table = [labels.encode(record) for record in records]
    examples = ExampleSet(records, lambda record: encode_labelled(record, TOKENIZER, max_length=16))
    train = PackedBatches(
        examples, lambda rows: label_batch(rows, table), rows_per_batch=8, max_length=16, packing=False
    )
    torch.manual_seed(0)
    from ostro.transformers import LlamaConfig, LlamaForSequenceClassification, LlamaForTokenClassification

    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, num_labels=2, pad_token_id=0,
    )  # fmt: skip
    model = (LlamaForTokenClassification if kind == "words" else LlamaForSequenceClassification)(config)
    run = TrainConfig.from_dict(
        {
            "model": "tiny", "output_dir": str(tmp_path / "run"), "data": {"train": ["-"]}, "steps": 40,
            "learning_rate": 2e-2, "dtype": "float32",
        }
    )  # fmt: skip
    trainer = Trainer(run, model, Classification(labels), train, [train.next() for _ in range(3)])
    result = trainer.run()
    assert result.evaluation["accuracy"] == result.evaluation["f1"] == 1
    assert ("span_f1" in result.evaluation) == (kind == "words")
    first = next(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert not [key for key in first if "." in key]  # the counts are summarized
