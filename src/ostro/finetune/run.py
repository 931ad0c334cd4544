"""Whole runs: from a configuration to a trained model on disk.

    from ostro.finetune import TrainConfig, sft

    result = sft(TrainConfig.from_yaml("sft.yaml"))
    result.path                                     # runs/support/adapter

Each goes on where it stopped with `resume=True`, and may be started by torchrun in several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ostro.errors import ConfigError
from ostro.finetune.config import PretrainConfig, TrainConfig
from ostro.finetune.distributed import Group, join
from ostro.finetune.output import check_output, write_output
from ostro.finetune.plot import plot_losses
from ostro.finetune.preparation import Prepared, prepare_classify, prepare_dpo, prepare_pretrain, prepare_sft
from ostro.finetune.samples import check_samples, continue_samples
from ostro.finetune.sections import ClassifyConfig, DpoConfig
from ostro.finetune.trainer import Progress, Trainer, TrainResult


@dataclass(frozen=True)
class Watch:
    """What is told of a run while it goes on, in the main process: each is a function, or None.

    `on_prepared` has the data and the model before the first step; `on_reference` batches done and in all, of DPO's
    reference; `on_progress` every step; `on_evaluation` the step, the numbers, and prompts with the model's answers.
    """

    on_prepared: Callable[[Prepared[Any]], None] | None = None
    on_reference: Callable[[int, int], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_evaluation: Callable[[int, dict[str, float], Sequence[tuple[str, str]]], None] | None = None


def sft(config: TrainConfig, *, resume: bool = False, watch: Watch | None = None) -> TrainResult:
    """Supervised fine-tuning: the assistants' words of conversations are learnt. `path` is the model or adapter.

    With `resume` it goes on at the newest checkpoint of `output_dir`. ConfigError, DataError and CheckpointError say
    what is wrong with configuration, data or files; TrainingInterrupted that Ctrl-C was pressed, after a checkpoint.
    """
    return _run(config, lambda group, _: prepare_sft(config, group), resume, watch)


def dpo(config: DpoConfig, *, resume: bool = False, watch: Watch | None = None) -> TrainResult:
    """Direct preference optimization on pairs of answers; otherwise as `sft`."""
    return _run(config, lambda group, told: prepare_dpo(config, group, told.on_reference), resume, watch)


def classify(config: ClassifyConfig, *, resume: bool = False, watch: Watch | None = None) -> TrainResult:
    """Train a classifier of texts or words; `Classifier(result.path)` uses it. Otherwise as `sft`."""
    return _run(config, lambda group, _: prepare_classify(config, group), resume, watch)


def pretrain(config: PretrainConfig, *, resume: bool = False, watch: Watch | None = None) -> TrainResult:
    """Train a new model of random weights on text; otherwise as `sft`."""
    return _run(config, lambda group, _: prepare_pretrain(config, group), resume, watch)


def _run(
    config: TrainConfig | PretrainConfig,
    prepare: Callable[[Group, Watch], Prepared[Any]],
    resume: bool,
    watch: Watch | None,
) -> TrainResult:
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    check_output(config, resume=resume)
    group = join(config.device)
    try:
        _check_processes(config, group)
        _check_samples(config, group)
        told = watch if watch is not None and group.is_main else Watch()
        prepared = prepare(group, told)
        if group.is_main:
            check_samples(prepared.model, prepared.tokenizer, prepared.form, config.samples)
            prepared = prepared.checked()
        if told.on_prepared is not None:
            told.on_prepared(prepared)
        result = _trainer(config, prepared, group, told).run(resume=resume)
        path = write_output(config, prepared.model, group, prepared.classifier)
        if group.is_main:
            plot_losses(config.output_dir)
        return replace(result, path=path)
    finally:
        group.close()


def _check_processes(config: TrainConfig | PretrainConfig, group: Group) -> None:
    if group.size > 1 and config.optimizer == "muon":
        raise ConfigError(
            f"optimizer: muon needs each matrix whole, and of {group.size} processes each holds a part of it. Use "
            "optimizer: adamw, or train in one process."
        )


def _check_samples(config: TrainConfig | PretrainConfig, group: Group) -> None:
    if not config.samples.prompts:
        return
    if group.size > 1:
        raise ConfigError(
            f"samples.prompts: of {group.size} processes each holds a part of the model, and none can answer a prompt "
            "alone. Leave samples out, or train in one process."
        )
    if isinstance(config, ClassifyConfig):
        raise ConfigError("samples.prompts: a classifier writes no answers. Leave samples out.")


def _trainer(config: TrainConfig | PretrainConfig, prepared: Prepared[Any], group: Group, told: Watch) -> Trainer[Any]:
    def on_evaluation(step: int, numbers: dict[str, float]) -> None:
        if told.on_evaluation is not None:
            samples = continue_samples(prepared.model, prepared.tokenizer, prepared.form, config.samples)
            told.on_evaluation(step, numbers, list(samples))

    return Trainer(
        config,
        prepared.model,
        prepared.objective,
        prepared.train,
        prepared.evaluation,
        group=group,
        on_progress=told.on_progress,
        on_evaluation=on_evaluation,
    )
