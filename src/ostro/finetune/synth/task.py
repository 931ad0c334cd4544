"""What is to be written: the task file, the requests made of it, and the schema of what comes back."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ostro.finetune.config_reader import BadKey, Source, load_yaml, read_section

FIELDS: Mapping[str, tuple[str, ...]] = {
    "instruction": ("instruction", "output"),
    "preference": ("prompt", "chosen", "rejected"),
}
"""The fields of a record of each kind. The first is what must not repeat."""
ANSWERS: Mapping[str, tuple[str, ...]] = {"instruction": ("output",), "preference": ("chosen", "rejected")}

_SYSTEM = (
    "You write training data for a language model. Every record stands by itself: it names all that is needed to "
    "answer, and its answer is correct and complete. Records differ from each other in subject, form and length."
)
_WHAT = {
    "instruction": (
        '"instruction" is what a user asks, with every text or number that the task needs, and "output" is the '
        "answer that an excellent assistant gives."
    ),
    "preference": (
        '"prompt" is what a user asks; "chosen" is the answer that an excellent assistant gives; "rejected" is an '
        "answer that looks plausible and is clearly worse: wrong, incomplete, evasive or not what was asked for."
    ),
}


@dataclass(frozen=True)
class SynthTask:
    """A task file; docs/finetuning-data.md says what each key does.

    `fields` are JSON schemas of the texts of the fields, such as {"output": {"maxLength": 400}}. `output_schema` is one
    that the answers must satisfy as JSON. `similarity` is the share of common character 5-grams (Jaccard) from which
    two questions count as the same.
    """

    kind: Literal["instruction", "preference"]
    topics: tuple[str, ...]
    instructions: str = ""
    languages: tuple[str, ...] = ("English",)
    examples: tuple[Mapping[str, Any], ...] = ()
    shown_examples: int = 3
    per_request: int = 4
    fields: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    similarity: float = 0.7
    temperature: float = 0.9
    top_p: float = 1.0
    max_tokens: int = 2048
    seed: int | None = None
    structured: bool = True

    def __post_init__(self) -> None:
        for name in ("topics", "languages"):
            if not getattr(self, name):
                raise BadKey(name, "is empty: name at least one.")
        for name in ("per_request", "max_tokens"):
            if getattr(self, name) < 1:
                raise BadKey(name, f"is {getattr(self, name)}; it is at least 1.")
        if self.shown_examples < 0:
            raise BadKey("shown_examples", f"is {self.shown_examples}; it is at least 0.")
        for name, low, high in (("similarity", 0.0, 1.0), ("temperature", 0.0, 2.0), ("top_p", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high or (name != "temperature" and not getattr(self, name)):
                raise BadKey(name, f"is {getattr(self, name):g}; it lies between {low:g} and {high:g}.")
        self._check_fields()

    def _check_fields(self) -> None:
        from ostro.finetune.synth.checks import schema_problem

        names = FIELDS[self.kind]
        for name, schema in self.fields.items():
            if name not in names:
                raise BadKey("fields", f"has {name!r}; a record of the kind {self.kind} has {', '.join(names)}.")
            if not isinstance(schema, Mapping) or schema.get("type", "string") != "string":
                raise BadKey("fields", f"has {schema!r} for {name}; it is the JSON schema of a string.")
        if problem := schema_problem(self.record_schema):
            raise BadKey("fields", f"holds no valid JSON schema: {problem}.")
        if self.output_schema is not None and (problem := schema_problem(self.output_schema)):
            raise BadKey("output_schema", f"is no valid JSON schema: {problem}.")
        for example in self.examples:
            if set(example) != set(names) or not all(isinstance(text, str) for text in example.values()):
                raise BadKey("examples", f"has {dict(example)!r:.80}; each has the texts {', '.join(names)}.")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> SynthTask:
        """The task in a YAML file; ConfigError names line and key of what is wrong."""
        data, lines = load_yaml(Path(path))
        return read_section(cls, data, Source(str(path), lines))

    @property
    def fingerprint(self) -> str:
        """Of all that decides which requests are made and what is kept."""
        return hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=16).hexdigest()

    @property
    def record_schema(self) -> dict[str, Any]:
        """The JSON schema of a record."""
        names = FIELDS[self.kind]
        texts = {name: {"type": "string", "minLength": 1, **self.fields.get(name, {})} for name in names}
        return {"type": "object", "properties": texts, "required": list(names), "additionalProperties": False}

    @property
    def answer_schema(self) -> dict[str, Any]:
        """The JSON schema of an answer: a list of records."""
        records = {"type": "array", "items": self.record_schema, "minItems": 1, "maxItems": self.per_request}
        return {
            "type": "object",
            "properties": {"records": records},
            "required": ["records"],
            "additionalProperties": False,
        }

    def topic(self, number: int) -> str:
        """The topic of a request: all in turn."""
        return self.topics[number % len(self.topics)]

    def body(self, number: int) -> dict[str, Any]:
        """Request `number`, without the model. The same number gives the same request."""
        asked = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": self._user_text(number)}]
        body: dict[str, Any] = {"messages": asked, "temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.top_p != 1:
            body["top_p"] = self.top_p
        if self.seed is not None:
            body["seed"] = self.seed + number
        if self.structured:
            described = {"name": "records", "schema": self.answer_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        return body

    def _user_text(self, number: int) -> str:
        rng = random.Random(f"{self.seed}-{number}")
        language = self.languages[number // len(self.topics) % len(self.languages)]
        parts = [
            f"Write {self.per_request} records about this topic: {self.topic(number)}.",
            f"Language: {language}.",
            _WHAT[self.kind],
        ]
        if self.instructions:
            parts.append(self.instructions.strip())
        if limits := self._limits():
            parts.append(limits)
        if shown := rng.sample(range(len(self.examples)), min(self.shown_examples, len(self.examples))):
            examples = [dict(self.examples[index]) for index in shown]
            parts.append(f"Examples of form and quality, not to be repeated:\n{_dump({'records': examples})}")
        form = _dump({"records": [dict.fromkeys(FIELDS[self.kind], "...")]})
        parts.append(f"Answer with one JSON object and nothing else, in this form:\n{form}")
        return "\n\n".join(parts)

    def _limits(self) -> str:
        """The schemas in words, for models that are not held to them."""
        said = [f"{name}: {_dump(schema)}" for name, schema in self.fields.items()]
        if self.output_schema is not None:
            names = " and ".join(map(repr, ANSWERS[self.kind]))
            said.append(f"{names} is JSON text that satisfies this JSON schema: {_dump(self.output_schema)}")
        return "\n".join(said)


def _dump(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
