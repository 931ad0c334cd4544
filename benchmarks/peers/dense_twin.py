"""Decode speed of a dense model with the active parameters of a mixture of experts, printed as JSON.

    python dense_twin.py mixtral-8x7b --layers 4 --bits 4 --threads 2

The twin's feed-forward layers have the rows of all experts that one token passes through, in one matrix.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from ostro.bench import Machine, Plan, bench_shape, find_shape


def main() -> None:
    """Measure the twin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape")
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=128)
    options = parser.parse_args()
    mixture = find_shape(options.shape, options.layers)
    twin = replace(
        mixture,
        family="mistral",
        intermediate_size=mixture.intermediate_size * mixture.num_experts_per_tok,
        num_local_experts=0,
        num_experts_per_tok=0,
    )
    plan = Plan(prefill=(), batch=(1,), context=options.context)
    report = bench_shape(twin, plan, bits=options.bits, machine=Machine(num_threads=options.threads)).as_json()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
