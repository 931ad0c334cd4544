"""A real pretrained model in its three forms tells the story that transformers and llama.cpp tell."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ostro import LLM, SamplingParams
from ostro.ops import BACKENDS

STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K"
FORMS = {"hf": "hf", "native": "native", "gguf": "stories260K.gguf"}

# Greedy, from BOS alone; transformers 5.23 (float32) and llama.cpp (llama-cpp-python 0.3.36) give the same 200 ids.
STORY = [
    403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408,
    419, 292, 411, 322, 265, 282, 295, 433, 426, 385, 328, 432, 358, 394, 261, 370, 432, 352, 266, 268, 388, 426,
    338, 391, 266, 267, 337, 335, 312, 432, 398, 312, 286, 267, 414, 270, 333, 415, 426, 13, 438, 310, 439, 419, 357,
    336, 432, 313, 438, 310, 432, 278, 316, 439, 419, 298, 414, 267, 265, 282, 295, 433, 426, 436, 317, 286, 296,
    418, 269, 279, 292, 416, 439, 413, 409, 416, 327, 263, 415, 294, 267, 400, 426, 338, 336, 432, 313, 442, 391,
    267, 337, 335, 364, 420, 268, 388, 432, 398, 359, 280, 303, 439, 413, 272, 417, 264, 312, 426, 436, 13, 438, 310,
    286, 296, 418, 269, 279, 292, 416, 439, 413, 409, 416, 327, 263, 415, 294, 267, 400, 426, 338, 336, 432, 313,
    442, 439, 423, 262, 304, 420, 422, 432, 317, 426, 359, 279, 292, 416, 439, 413, 409, 416, 327, 263, 415, 294,
    267, 400, 426, 436, 13, 438, 310, 279, 292, 416, 439, 413, 391, 267, 281, 421, 427, 311, 357, 432, 384, 358,
]  # fmt: skip
BEGINNING = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."

pytestmark = pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_story_from_every_form(form: str, backend: str) -> None:
    llm = LLM(STORIES / FORMS[form], backend=backend)
    greedy = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
    output = llm.generate([[1]], greedy)[0].outputs[0]
    assert output.token_ids == STORY
    assert output.text.lstrip().startswith(BEGINNING)
    assert output.finish_reason == "length"


def test_transformers_agrees() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(STORIES / "hf", dtype=torch.float32)
    out = model.generate(torch.tensor([[1]]), max_new_tokens=200, min_new_tokens=200, do_sample=False)
    assert out[0, 1:].tolist() == STORY


@pytest.mark.slow
def test_llama_cpp_agrees() -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    peer = llama_cpp.Llama(str(STORIES / FORMS["gguf"]), n_ctx=512, verbose=False)
    told = peer.generate([1], top_k=1, temp=0.0, repeat_penalty=1.0)
    assert [int(token) for token in itertools.islice(told, len(STORY))] == STORY
