"""Runs OpenVINO GenAI on a GGUF file and prints tokens per second as JSON. It is run by another interpreter: the one
of an environment with openvino-genai, and imports nothing of ours.

    python openvino_worker.py MODEL.gguf --threads 2 --rows prefill decode --properties '{"ATTENTION_BACKEND": "SDPA"}'
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import openvino
import openvino_genai

_FIRST_WORD = 300  # ids below are bytes and control tokens


class Worker:
    """A loaded model that gets prompts of random words, another one every time: nothing is found in a cache."""

    def __init__(self, model: str, properties: dict[str, str]) -> None:
        self._pipeline = openvino_genai.LLMPipeline(model, "CPU", **properties)
        self._random = np.random.default_rng(0)

    def step_seconds(self, batch: int, prompt: int, new_tokens: int, vocab: int) -> list[float]:
        """Seconds of every step; the first one is the prompts' prefill."""
        ids = openvino.Tensor(self._random.integers(_FIRST_WORD, vocab, (batch, prompt)))
        mask = openvino.Tensor(np.ones((batch, prompt), np.int64))
        config = openvino_genai.GenerationConfig(max_new_tokens=new_tokens, ignore_eos=True, do_sample=False)
        result = self._pipeline.generate(openvino_genai.TokenizedInputs(ids, mask), config)
        steps = list(result.perf_metrics.raw_metrics.token_infer_durations)
        if len(steps) != new_tokens or any(len(tokens) != new_tokens for tokens in result.tokens):
            raise SystemExit(f"{len(steps)} steps were reported for {new_tokens} tokens of {batch} answers")
        return [microseconds / 1e6 for microseconds in steps]


def main() -> None:
    """Measure the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="+", choices=("prefill", "decode", "decode8"), default=["prefill", "decode"])
    parser.add_argument("--properties", type=json.loads, default={})
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--vocab", type=int, default=32000)
    options = parser.parse_args()
    worker = Worker(options.model, {"INFERENCE_NUM_THREADS": options.threads, **options.properties})
    worker.step_seconds(1, 16, 3, options.vocab)  # weights are rearranged when they are first used
    rates = {"version": openvino_genai.__version__}
    if "prefill" in options.rows:
        worker.step_seconds(1, options.prompt, 1, options.vocab)  # the first prompt of a length is slower
        rates["prefill"] = options.prompt / worker.step_seconds(1, options.prompt, 1, options.vocab)[0]
    for row, batch in (("decode", 1), ("decode8", 8)):
        if row in options.rows:
            steps = worker.step_seconds(batch, options.context, options.new_tokens + 1, options.vocab)[1:]
            rates[row] = batch * len(steps) / sum(steps)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
