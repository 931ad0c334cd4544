"""How much of prompts fits a step, by times that are made up."""

from __future__ import annotations

from engine_models import GREEDY, make_core, prompts, run_all

from ostro.engine.pace import Pace


def test_nothing_is_bounded_before_it_is_known() -> None:
    assert Pace(0.5).max_prompt_tokens(2) is None


def test_a_step_beside_others_is_short_and_alone_longer() -> None:
    pace = Pace(0.5)
    for _ in range(20):
        pace.note(num_prompt_tokens=0, seconds=0.2)
        pace.note(num_prompt_tokens=100, seconds=1.2)
    assert pace.max_prompt_tokens(2) == 16  # 0.3 s at 0.01 s a token, in sixteens
    assert pace.max_prompt_tokens(1) == 192


def test_prompts_always_go_on() -> None:
    pace = Pace(0.5)
    pace.note(num_prompt_tokens=0, seconds=3)
    pace.note(num_prompt_tokens=100, seconds=1000)
    assert pace.max_prompt_tokens(2) == 16


def test_one_step_that_was_held_up_does_not_rule() -> None:
    pace = Pace(0.5)
    pace.note(num_prompt_tokens=100, seconds=0.1)
    pace.note(num_prompt_tokens=100, seconds=300)
    held_up = pace.max_prompt_tokens(2)
    assert held_up is not None
    assert held_up >= 256
    for _ in range(20):
        pace.note(num_prompt_tokens=100, seconds=0.1)
    assert pace.max_prompt_tokens(2) == 496


def test_few_tokens_say_nothing_about_many() -> None:
    pace = Pace(0.5)
    pace.note(num_prompt_tokens=2, seconds=1)
    assert pace.max_prompt_tokens(2) is None


def test_answers_do_not_depend_on_it() -> None:
    def answers(pace: Pace | None) -> list[list[int]]:
        core = make_core(max_num_seqs=8)
        core.pace = pace
        for i, prompt in enumerate(prompts(8)):
            core.add_request(str(i), prompt, GREEDY)
        return [output.outputs[0].token_ids for output in run_all(core).values()]

    assert sorted(answers(Pace(1e-9))) == sorted(answers(None))
