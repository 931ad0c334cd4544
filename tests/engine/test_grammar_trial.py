"""What a hostile grammar does, it does in another process; here it is a refusal that says what is wrong."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from typing import Any

import pytest
from engine_models import make_core
from toy_tokenizer import toy

from ostro.engine import EngineCore, SamplingParams, grammar_trial
from ostro.engine.grammar import LIMITS, MAX_COMPILED, Grammars, Guide
from ostro.engine.guided import Guided
from ostro.errors import RequestError

GROWING = " & ".join(f"/.*b{{1,{n}}}/" for n in range(1, 40))
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "patterns that must all match": (
        {"json_schema": {"allOf": [{"type": "string", "pattern": f"b{{1,{n}}}$"} for n in range(1, 40)]}},
        "takes more than 1 s or 2 GiB",
    ),
    "terminals that must all match": ({"grammar": f"start: T\nT: {GROWING}"}, "takes more than 1 s"),
    "a chain of rules": (
        {"grammar": "start: t0\n" + "".join(f"t{n}: t{n + 1}\n" for n in range(9000)) + 't9000: "a"'},
        "nested too deeply",
    ),
    "a chain of references": (
        {
            "json_schema": {
                "$ref": "#/$defs/0",
                "$defs": {**{f"{n}": {"$ref": f"#/$defs/{n + 1}"} for n in range(5000)}, "5000": {"type": "null"}},
            }
        },
        "nested too deeply",
    ),
    "groups": ({"regex": "(" * 60_000 + "a" + ")" * 60_000}, "nested parentheses"),
    "rules in parentheses": ({"grammar": "start: " + "(" * 60_000 + '"a"' + ")" * 60_000}, "too complex"),
    "repetitions of repetitions": ({"regex": "(a{1000}){1000}"}, "too complex|takes more than 1 s"),
    "repetitions that overlap": ({"regex": r"(\p{L}{1,50}\s?){1,50}"}, "too complex"),
    "rules that double": (
        {"grammar": "start: t0\n" + "".join(f"t{n}: t{n + 1} t{n + 1}\n" for n in range(60)) + 't60: "a"'},
        "too complex",
    ),
    "cases that multiply": (
        {
            "json_schema": {
                "allOf": [
                    {"anyOf": [{"type": "object", "required": [f"{a}{b}"]} for b in range(10)]} for a in range(10)
                ]
            }
        },
        "too complex",
    ),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_trial, "MAX_SECONDS", 1)
    monkeypatch.setitem(
        grammar_trial._ENDS, "CRASH", grammar_trial._ENDS["CRASH"].replace("more than 3 s", "more than 1 s")
    )


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(toy())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_is_refused_and_nothing_else_happens(grammars: Grammars, name: str) -> None:
    form, words = HOSTILE[name]
    with pytest.raises(RequestError, match=words) as caught:
        grammars.compile(Guided(**form))
    assert caught.value.param == "response_format"
    assert len(str(caught.value)) < 600
    with pytest.raises(RequestError, match=re.escape(str(caught.value))):  # known by now
        grammars.compile(Guided(**form))


@pytest.mark.parametrize(
    "form",
    [
        {"choice": [f"{n:0100d}" for n in range(1900)]},
        {"json_schema": {"enum": [f"value {n}" for n in range(10_000)]}},
        {"json_schema": {"properties": {f"name {n}": {"type": "string"} for n in range(500)}}},
    ],
)
def test_what_is_merely_large_is_taken(grammars: Grammars, form: dict[str, Any]) -> None:
    guide = Guide(grammars.compile(Guided(**form)), at_start=False)
    assert len(guide.allowed(frozenset())) > 0


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"regex": "(?<=x)*"}, "The regex cannot be compiled: look-around"),
        ({"regex": "a("}, "The regex cannot be compiled: unclosed group"),
        ({"regex": "()"}, "The regex allows nothing but the empty text"),
        ({"regex": "[^\\s\\S]"}, "The regex .*(allows no text|empty)"),
        ({"regex": "a"}, ""),
        ({"grammar": "start: x"}, 'The grammar cannot be compiled: line 1, column 8: unknown name: "x"'),
        ({"grammar": 'begin: "x"'}, "no start rule found"),
        ({"grammar": "start: start"}, "allows no text at all, or refers to itself"),
        ({"grammar": "start: <|nobody|>"}, 'unknown special token: "<|nobody|>"'),
        ({"grammar": "start: <[262]> <|eot_id|>"}, ""),
        ({"grammar": "start: <[1-5,9999999999]>"}, "names the token <\\[9999999999\\]>"),
        ({"grammar": "start: <[^1-5]> <[*]>"}, ""),
        ({"grammar": "start: <[265]>"}, "names the token <\\[265\\]>, but ids go from 0 to 264"),
        ({"grammar": 'start: x\nx[temperature=0.5]: "a"'}, "sets a temperature"),
        ({"grammar": "start: x\nx[max_tokens=5]: /a+/"}, ""),
        ({"grammar": '{"grammars": [{"json_schema": {}}]}'}, "line 1, column 1"),
        (
            {"json_schema": {"type": "string", "pattern": "a(?=b)"}},
            "JSON schema, at #/pattern, cannot be compiled: look",
        ),
        ({"json_schema": {"type": "string", "pattern": "\\bx"}}, "at #/pattern, cannot be compiled: lookarounds"),
        (
            {"json_schema": {"type": "integer", "minimum": 3, "maximum": 2}},
            "cannot be satisfied: minimum \\(3\\) is gr",
        ),
        (
            {"json_schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}},
            "oneOf whose cases may overlap: use an",
        ),
        ({"json_schema": {"$ref": "#"}}, "refers to itself without end"),
        ({"json_schema": {"type": "number", "multipleOf": 1e12}}, "'multipleOf' has too many digits"),
        ({"json_schema": {"minLength": "é" * 200}}, "at #/minLength: it must be a whole number"),
        ({"json_schema": True}, ""),
    ],
)
def test_a_refusal_says_what_and_where(grammars: Grammars, form: dict[str, Any], words: str) -> None:
    if not words:
        grammars.compile(Guided(**form))
        return
    with pytest.raises(RequestError, match=words) as caught:
        grammars.compile(Guided(**form))
    assert "<state>" not in str(caught.value)


def test_the_engine_refuses_before_it_queues() -> None:
    core = make_core(tokenizer=toy())
    bad = SamplingParams(guided=Guided(regex="(?=a)"), max_tokens=4)
    for call in (core.prepare, lambda params: core.add_request("a", [5], params)):
        with pytest.raises(RequestError, match="look-around"):
            call(bad)
    assert not core.has_unfinished


def test_a_grammar_needs_a_tokenizer() -> None:
    core: EngineCore = make_core()
    params = SamplingParams(guided=Guided(choice=["a"]), max_tokens=4)
    for call in (core.prepare, lambda params: core.add_request("a", [5], params)):
        with pytest.raises(RequestError, match="guided needs a tokenizer"):
            call(params)
    core.prepare(SamplingParams())


def test_grammars_are_kept_and_forgotten(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("ostro.engine.grammar.trial", lambda source, **_: tried.append(source))
    for n in [*range(MAX_COMPILED), 0, MAX_COMPILED, 0, 1]:
        grammars.compile(Guided(choice=[f"choice {n}"]))
    # The first was used again before there were too many, so the second was the one to go.
    assert len(tried) == MAX_COMPILED + 2
    assert "choice 1" in tried[-1]


def test_a_grammar_that_is_held_is_not_compiled_again(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("ostro.engine.grammar.trial", lambda source, **_: tried.append(source))
    held = grammars.compile(Guided(choice=["held"]))
    for n in range(MAX_COMPILED + 1):
        grammars.compile(Guided(choice=[f"other {n}"]))
    count = len(tried)
    assert grammars.compile(Guided(choice=["held"])) is held
    assert len(tried) == count


def test_of_many_that_ask_for_the_same_grammar_one_compiles_it(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    all_came = threading.Barrier(9)

    def slow_trial(source: str, **_: object) -> None:
        tried.append(source)
        time.sleep(0.05)

    def compile_one() -> None:
        all_came.wait()
        grammars.compile(Guided(choice=["the same"]))

    monkeypatch.setattr("ostro.engine.grammar.trial", slow_trial)
    threads = [threading.Thread(target=compile_one) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 1
    assert not grammars._compiling


def test_several_threads_may_compile(grammars: Grammars) -> None:
    results: list[object] = []

    def compile_one(n: int) -> None:
        results.append(grammars.compile(Guided(regex=f"x{{{1 + n % 3}}}")))

    threads = [threading.Thread(target=compile_one, args=(n,)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 9


def test_a_process_that_cannot_be_started_is_named(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(RequestError, match="'/no/such/python' cannot be started: No such file"):
        grammars.compile(Guided(regex="never seen before"))


def test_a_process_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_trial, "MAX_WAIT", 0.001)
    source = json.dumps({"grammars": [{"lark_grammar": f"start: T\nT: {GROWING}"}]})
    assert grammar_trial.trial(source, limits=LIMITS, num_tokens=0, special={}) == "TIME"


def test_words_for_what_llguidance_says() -> None:
    assert grammar_trial.explained("panic: index out of range\nat x.rs") == grammar_trial.explained("fuel exhausted")
    assert grammar_trial.explained("TIME").startswith("takes more than")
