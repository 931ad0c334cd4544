"""The snippets of the source documents: transformers' page on Mistral, and the blog post on Mixtral.

They run word for word but for the import, the model's name, and the mistakes they have: "cuda" and an undefined
`device` (here "cpu"), `quantization_config=True` for the config just made.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as transformers_of_hf

from ostro import transformers
from ostro.errors import RequestError
from ostro.transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from ostro.transformers.pipelines import DEFAULTS

Folder = Callable[..., Path]
MESSAGES = [
    {"role": "user", "content": "What is your favourite condiment?"},
    {
        "role": "assistant",
        "content": "Well, I'm quite partial to a good squeeze of fresh lemon juice. It adds just the right amount of "
        "zesty flavour to whatever I'm cooking up in the kitchen!",
    },
    {"role": "user", "content": "Do you have mayonnaise recipes?"},
]


def test_the_base_model(chat_folder: Folder) -> None:
    name = str(chat_folder("mistral-7b-v0.1", "v1"))
    device = "cpu"
    model = AutoModelForCausalLM.from_pretrained(name, device_map="auto")
    tokenizer = AutoTokenizer.from_pretrained(name)
    prompt = "My favourite condiment is"
    model_inputs = tokenizer([prompt], return_tensors="pt").to(device)
    model.to(device)
    generated_ids = model.generate(**model_inputs, max_new_tokens=100, do_sample=True)
    text = tokenizer.batch_decode(generated_ids)[0]
    assert text.removeprefix("<s>").lstrip().startswith(prompt)
    assert model_inputs.input_ids.shape[1] < generated_ids.shape[1] <= model_inputs.input_ids.shape[1] + 100


def test_the_instruct_model(chat_folder: Folder) -> None:
    name = str(chat_folder("mistral-7b-v0.3", "v3"))
    model = AutoModelForCausalLM.from_pretrained(name, device_map="auto")
    tokenizer = AutoTokenizer.from_pretrained(name)
    model_inputs = tokenizer.apply_chat_template(MESSAGES, return_tensors="pt").to("cpu")
    generated_ids = model.generate(model_inputs, max_new_tokens=100, do_sample=True)
    assert "mayonnaise recipes?" in tokenizer.batch_decode(generated_ids)[0]
    unpacked = tokenizer.apply_chat_template(MESSAGES, return_tensors="pt", return_dict=True)
    assert torch.equal(unpacked["input_ids"], model_inputs)
    assert model.generate(**unpacked, max_new_tokens=2).shape[0] == 1


def test_flash_attention(chat_folder: Folder) -> None:
    name = str(chat_folder("mistral-7b-v0.1", "v1"))
    device = "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        name, torch_dtype=torch.float16, attn_implementation="flash_attention_2", device_map="auto"
    )
    tokenizer = AutoTokenizer.from_pretrained(name)
    prompt = "My favourite condiment is"
    model_inputs = tokenizer([prompt], return_tensors="pt").to(device)
    model.to(device)
    generated_ids = model.generate(**model_inputs, max_new_tokens=100, do_sample=True)
    assert tokenizer.batch_decode(generated_ids)[0]
    assert model.dtype == torch.float16


def test_quantization(chat_folder: Folder) -> None:
    name = str(chat_folder("mistral-7b-v0.3", "v3"))
    quantization_config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype="torch.float16",
    )
    with pytest.raises(RequestError, match="quantization_config=quantization_config"):
        AutoModelForCausalLM.from_pretrained(name, quantization_config=True, device_map="auto")
    model = AutoModelForCausalLM.from_pretrained(name, quantization_config=quantization_config, device_map="auto")
    tokenizer = AutoTokenizer.from_pretrained(name)
    model_inputs = tokenizer.apply_chat_template(MESSAGES, return_tensors="pt").to("cpu")
    generated_ids = model.generate(model_inputs, max_new_tokens=100, do_sample=True)
    assert tokenizer.batch_decode(generated_ids)[0]
    whole = AutoModelForCausalLM.from_pretrained(name)
    embeddings = 2 * whole.get_input_embeddings().weight.nbytes
    layers = whole.get_memory_footprint() - embeddings
    assert model.get_memory_footprint() - embeddings < 0.17 * layers  # 4.5 bits of 32, and a little for small matrices


def test_mixtral_in_a_pipeline(chat_folder: Folder) -> None:
    model = str(chat_folder("mixtral", "v1"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    pipeline = transformers.pipeline(
        "text-generation",
        model=model,
        model_kwargs={"torch_dtype": torch.float16, "load_in_4bit": True},
    )
    messages = [{"role": "user", "content": "Explain what a Mixture of Experts is in less than 100 words."}]
    prompt = pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    outputs = pipeline(prompt, max_new_tokens=50, do_sample=True, temperature=0.7, top_k=50, top_p=0.95)
    assert outputs[0]["generated_text"].startswith(prompt)
    assert pipeline.model.is_quantized
    assert pipeline.model.dtype == torch.float16
    assert tokenizer(prompt)["input_ids"] == tokenizer.apply_chat_template(messages)


@pytest.fixture
def pipe(chat_folder: Folder) -> Any:
    return transformers.pipeline("text-generation", model=chat_folder("nemo", "v3"))


def test_what_a_pipeline_returns(pipe: Any) -> None:
    greedy = {"do_sample": False, "max_new_tokens": 6}
    prompt = "Once upon a time"
    whole = pipe(prompt, **greedy)
    assert whole[0]["generated_text"].startswith(prompt)
    rest = pipe(prompt, return_full_text=False, **greedy)[0]["generated_text"]
    assert prompt + rest == whole[0]["generated_text"]
    inputs = pipe.tokenizer(prompt, return_tensors="pt")
    ids = pipe.model.generate(**inputs, **greedy)[0]
    assert pipe.tokenizer.decode(ids, skip_special_tokens=True) == whole[0]["generated_text"]
    assert (
        pipe(prompt, return_tensors=True, **greedy)[0]["generated_token_ids"]
        == ids[len(inputs.input_ids[0]) :].tolist()
    )
    many = pipe([prompt, "A dog"], **greedy)
    assert many[0] == whole
    assert pipe([prompt, "A dog"], batch_size=2, **greedy) == many
    drawn = pipe(prompt, do_sample=True, max_new_tokens=4, num_return_sequences=3)
    assert len(drawn) == 3
    assert isinstance(transformers.pipeline("text-generation", model=pipe.model, tokenizer=pipe.tokenizer), type(pipe))


def test_what_a_pipeline_does_where_nothing_is_said(pipe: Any) -> None:
    stated = transformers_of_hf.TextGenerationPipeline._default_generation_config.to_diff_dict()
    assert {key: stated[key] for key in DEFAULTS} == DEFAULTS
    prompt = "Once upon a time"
    inputs = pipe.tokenizer(prompt, return_tensors="pt")
    width = inputs.input_ids.shape[1]

    def new(**arguments: Any) -> list[int]:
        transformers.set_seed(3)
        ids: list[int] = pipe(prompt, return_tensors=True, **arguments)[0]["generated_token_ids"]
        return ids

    transformers.set_seed(3)
    wanted = pipe.model.generate(**inputs, do_sample=True, temperature=0.7, max_new_tokens=256 - width)
    assert new() == wanted[0, width:].tolist()
    given = transformers.GenerationConfig(max_length=width + 5)
    assert new(generation_config=given) == new()[:5]
    assert new(generation_config=given, do_sample=False) == new(do_sample=False)[:5] != new()[:5]
    pipe.model.generation_config.temperature, pipe.model.generation_config.top_k = 1.7, 1
    assert new() == new(do_sample=False)


def test_a_chat_in_a_pipeline(pipe: Any) -> None:
    greedy = {"do_sample": False, "max_new_tokens": 6}
    answered = pipe(MESSAGES, **greedy)[0]["generated_text"]
    assert answered[:-1] == MESSAGES
    assert answered[-1]["role"] == "assistant"
    assert pipe([MESSAGES, MESSAGES[:1]], **greedy)[0][0]["generated_text"] == answered
    begun = [*MESSAGES, {"role": "assistant", "content": "Take an egg"}]
    continued = pipe(begun, **greedy)[0]["generated_text"]
    assert continued[-1]["content"].startswith("Take an egg")
    assert len(continued) == len(begun)


def test_what_a_pipeline_refuses(pipe: Any, chat_folder: Folder) -> None:
    with pytest.raises(RequestError, match="image-to-text"):
        transformers.pipeline("image-to-text", model=chat_folder())
    with pytest.raises(RequestError, match="loaded already"):
        transformers.pipeline("text-generation", model=pipe.model, torch_dtype=torch.float16)
    with pytest.raises(RequestError, match="needs a model"):
        transformers.pipeline("text-generation")
    with pytest.raises(RequestError, match="give one"):
        transformers.pipeline("text-generation", model=chat_folder(), device=0, device_map="auto")
    with pytest.raises(RequestError, match="num_beams"):
        pipe("a", num_beams=3)
    with pytest.raises(RequestError, match="must be a string"):
        pipe(5 * [3])


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.stdout.strip()


def test_importing_the_package_does_not_load_torch() -> None:
    assert run_python("import sys, ostro.transformers; print('torch' in sys.modules)") == "False"


def test_without_torch_the_extra_is_named() -> None:
    code = (
        "import importlib.util as u, importlib.machinery\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)\n"
        "from ostro.errors import MissingExtraError\n"
        "try:\n    import ostro.transformers\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    assert "pip install 'ostro[torch]'" in run_python(code)


def test_a_name_of_transformers_that_is_not_here() -> None:
    from ostro import transformers

    assert not hasattr(transformers, "AutoModelForSeq2SeqLM")
    with pytest.raises(AttributeError, match=r"has no 'Trainer'\. It has: AutoConfig, .*use transformers itself"):
        _ = transformers.Trainer
    with pytest.raises(ImportError, match="cannot import name 'TFMistralModel'"):
        from ostro.transformers import TFMistralModel  # noqa: F401


def test_every_public_name_is_there() -> None:
    for name in transformers.__all__:
        assert getattr(transformers, name).__name__ == name
    assert set(dir(transformers)) == set(transformers.__all__)
    with pytest.raises(AttributeError, match="MambaModel"):
        _ = transformers.MambaModel
