"""Training data that a served model writes: instructions or preferences from seed topics, checked and deduplicated.

    from ostro.finetune.synth import SynthTask, synthesize

    report = synthesize(SynthTask.from_yaml("task.yaml"), endpoint, "train.jsonl", count=1000)

The same is `ostro synth task.yaml` on the command line; docs/finetuning-data.md describes the task file.
"""

from __future__ import annotations

from ostro.finetune.synth.endpoint import Endpoint
from ostro.finetune.synth.run import SynthReport, synthesize
from ostro.finetune.synth.task import SynthTask

__all__ = ["Endpoint", "SynthReport", "SynthTask", "synthesize"]
