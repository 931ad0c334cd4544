"""Questions about given texts: the answer quotes the sentence that has it, or says that none has."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial

from recipes.ostro_mini.sample import Answer, Message, Sample, Task, assistant, same_text, system, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, several, sometimes
from recipes.ostro_mini.tasks.facts import KINDS, RELATIONS, Fact, Relation, ask, state, subject
from recipes.ostro_mini.tasks.passkey import filler

ABSENT: Mapping[Language, str] = {
    "en": "The context does not contain the answer.",
    "ko": "주어진 글에는 답이 없습니다.",
}
"""What the model says where the context lacks the answer."""

_RULE = "---------------------"
_FORMS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        f"Context information is below.\n{_RULE}\n{{context}}\n{_RULE}\n"
        "Given the context information and not prior knowledge, answer the query.\nQuery: {question}\nAnswer:",
        "Context:\n{context}\n\nQuestion: {question}",
        "{context}\n\n{question}",
        "Answer from the text.\n\n{context}\n\nQuestion: {question}\nAnswer:",
        "{question}\n\nContext:\n{context}",
    ),
    "ko": (
        f"Context information is below.\n{_RULE}\n{{context}}\n{_RULE}\n"
        "Given the context information and not prior knowledge, answer the query.\nQuery: {question}\nAnswer:",
        "문맥:\n{context}\n\n질문: {question}",
        "{context}\n\n{question}",
        "다음 글을 읽고 답하세요.\n\n{context}\n\n질문: {question}\n답:",
    ),
}
_NEXT: Mapping[Language, tuple[str, ...]] = {
    "en": ("{question}", "And: {question}", "Question: {question}", "Query: {question}\nAnswer:"),
    "ko": ("{question}", "그리고 {question}", "질문: {question}"),
}
_SYSTEM: Mapping[Language, tuple[str, ...]] = {
    "en": ("You are a helpful assistant.", "Answer from the context only."),
    "ko": ("당신은 도움이 되는 어시스턴트입니다.", "주어진 글로만 답하세요."),
}


def quoted(statement: str) -> str:
    """The answer that quotes a sentence."""
    return f'"{statement}"'


def world(rng: random.Random, split: Split, language: Language, size: int) -> list[Fact]:
    """So many facts about two or three subjects, of which some share the kind and so the relations."""
    kinds = rng.choices(KINDS, k=rng.choice((1, 2, 2)))
    count = 2 if size < 5 else 3
    subjects = several(
        rng, count, lambda: (kind := rng.choice(kinds), subject(rng, split, language, kind)), key=lambda pair: pair[1]
    )
    pairs = [(about, relation) for kind, about in subjects for relation in _relations(language, kind)]
    return [state(rng, split, language, *pair) for pair in rng.sample(pairs, min(size, len(pairs)))]


def _relations(language: Language, kind: str) -> list[Relation]:
    return [relation for relation in RELATIONS[language] if relation.subject == kind]


def unanswerable(rng: random.Random, split: Split, language: Language, facts: Sequence[Fact]) -> str:
    """A question about something that was not said: of a subject that was named, or of another."""
    fact = rng.choice(facts)
    stated = {(known.subject, known.relation.statement) for known in facts}
    if sometimes(rng, 0.5):
        return ask(rng, _stranger(rng, split, language, facts, fact.relation.subject), fact.relation)
    open_relations = [
        relation
        for relation in _relations(language, fact.relation.subject)
        if (fact.subject, relation.statement) not in stated
    ]
    if not open_relations:
        return ask(rng, _stranger(rng, split, language, facts, fact.relation.subject), fact.relation)
    return ask(rng, fact.subject, rng.choice(open_relations))


def _stranger(rng: random.Random, split: Split, language: Language, facts: Sequence[Fact], kind: str) -> str:
    named = {fact.subject for fact in facts}
    while (other := subject(rng, split, language, kind)) in named:
        pass
    return other


def layout(rng: random.Random, language: Language, facts: Sequence[Fact]) -> str:
    """The facts as text: one paragraph, a sentence a line, chunks, or a list as Python prints it; at times with
    sentences about nothing between them.
    """
    statements = [fact.statement for fact in facts]
    if sometimes(rng, 0.2):
        for sentence in filler(rng, language, rng.randint(1, 5)):
            statements.insert(rng.randrange(len(statements)), sentence)
    match rng.choice(("text", "lines", "chunks", "list")):
        case "text":
            return " ".join(statements)
        case "lines":
            return "\n".join(statements)
        case "chunks":
            middle = rng.randint(1, len(statements) - 1)
            first = rng.choice(("[{}] ", "{}. ", "Chunk {}: "))
            return "\n".join(
                first.format(number) + " ".join(part)
                for number, part in enumerate((statements[:middle], statements[middle:]), 1)
            )
        case _:
            middle = rng.randint(1, len(statements) - 1)
            return str([" ".join(statements[:middle]), " ".join(statements[middle:])])


def generate(rng: random.Random, split: Split, *, absent: bool, dense: bool = False) -> Sample:
    """One to three questions on one context, with `dense` up to ten; the last one has an answer, or with `absent` has none."""
    language = rng.choice(LANGUAGES)
    facts = world(rng, split, language, rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 6, 8, 12)))
    has_system = not dense and sometimes(rng, 0.3)
    turns = 10 if dense else rng.choice((1, 1, 2, 3))
    messages: list[Message] = [system(rng.choice(_SYSTEM[language]))] if has_system else []
    context, asked = layout(rng, language, facts), rng.sample(facts, min(turns, len(facts)))
    for number, fact in enumerate(asked):
        is_last = number == len(asked) - 1
        lacks = absent if is_last else sometimes(rng, 0.35)
        question = unanswerable(rng, split, language, facts) if lacks else fact.question
        form = rng.choice(_NEXT[language]) if number else rng.choice(_FORMS[language])
        messages.append(user(form.format(context=context, question=question)))
        answer = ABSENT[language] if lacks else quoted(fact.statement)
        if not is_last:
            messages.append(assistant(answer, trained=not has_system))
    others = [quoted(fact.statement) for fact in facts if quoted(fact.statement) != answer]
    rejected = rng.choice(others) if absent or sometimes(rng, 0.5) else ABSENT[language]
    name = "abstention" if absent else "context"
    return Sample(name, language, tuple(messages), Answer(answer), rejected=Answer(rejected))


CONTEXT = Task("context", 3.0, partial(generate, absent=False), same_text)
ABSTENTION = Task("abstention", 2.0, partial(generate, absent=True), same_text)
