"""The training loop: exact resume, accumulation, signals, evaluation, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import packed_batch, tiny_batches, tiny_config, tiny_model

from ostro.errors import CheckpointError, ConfigError, DamagedError, RequestError
from ostro.finetune.batches import ListBatches
from ostro.finetune.checkpointing import list_checkpoints
from ostro.finetune.metrics import read_metrics
from ostro.finetune.objective import Batch, LanguageModelling
from ostro.finetune.trainer import Progress, Trainer, TrainingInterrupted


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(folder: Path, model: Any = None, **changes: Any) -> Trainer[Batch]:
    config = tiny_config(folder, **changes)
    return Trainer(config, model or tiny_model(config.dtype), LanguageModelling(chunk_rows=16), tiny_batches())


def weights(of: Trainer[Batch]) -> list[torch.Tensor]:
    return [*of.model.parameters(), *of.optimizer.masters]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]


@pytest.mark.parametrize(("dtype", "optimizer"), [("float32", "adamw"), ("bfloat16", "adamw"), ("bfloat16", "muon")])
def test_a_resumed_run_has_the_same_bits(tmp_path: Path, dtype: str, optimizer: str) -> None:
    # Dropout draws random numbers, so that the generator's state counts as well.
    kwargs = {
        "dtype": dtype,
        "optimizer": optimizer,
        "gradient_accumulation": 2,
        "save_every": 4,
        "keep_checkpoints": 9,
    }
    whole = trainer(tmp_path / "whole", tiny_model(dtype, attention_dropout=0.2), **kwargs)
    result = whole.run()
    assert result.steps == 10
    cut = trainer(tmp_path / "cut", tiny_model(dtype, attention_dropout=0.2), **kwargs)
    cut.run()
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000010")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000008")
    torch.manual_seed(12345)  # another process would be anywhere
    resumed = trainer(tmp_path / "cut", tiny_model(dtype, attention_dropout=0.2), **kwargs)
    assert resumed.run(resume=True).loss == result.loss
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert resumed.tokens == whole.tokens == 10 * 2 * 64
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")  # and every step stands in the file once


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    again = trainer(tmp_path).run(resume=True)
    assert (again.steps, again.loss) == (10, None)


def test_a_step_does_not_depend_on_how_it_is_cut(tmp_path: Path) -> None:
    batches = [packed_batch(4, seed=seed) for seed in range(3)]
    for batch in batches:
        batch.loss_weights[0, 5:] = 0  # halves of different weight: a mean of means would differ
    parts = [
        Batch(*(x[half] for x in (b.token_ids, b.position_ids, b.loss_weights)))
        for b in batches
        for half in (slice(0, 2), slice(2, 4))
    ]
    results = []
    for name, items, count in (("one", batches, 1), ("two", parts, 2)):
        config = tiny_config(tmp_path / name, steps=3, gradient_accumulation=count)
        run = Trainer(config, tiny_model(), LanguageModelling(), ListBatches(items, shuffle=False))
        run.run()
        results.append([torch.cat([w.flatten() for w in weights(run)]), *(loss for _, loss in losses(tmp_path / name))])
    (whole, *one), (cut, *two) = results
    assert torch.allclose(whole, cut, atol=1e-5)
    assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run_after_the_step(tmp_path: Path, number: int) -> None:
    def at_step_3(progress: Progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    whole = trainer(tmp_path / "whole")
    whole.run()
    stopped = trainer(tmp_path / "cut")
    stopped._on_progress = at_step_3
    with pytest.raises(TrainingInterrupted) as caught:
        stopped.run()
    assert (caught.value.step, caught.value.signal) == (3, number)
    assert caught.value.checkpoint == list_checkpoints(tmp_path / "cut")[-1]
    assert signal.getsignal(number) == before
    resumed = trainer(tmp_path / "cut")
    resumed.run(resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    def twice(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    run = trainer(tmp_path)
    run._on_progress = twice
    with pytest.raises(KeyboardInterrupt) as caught:
        run.run()
    assert not isinstance(caught.value, TrainingInterrupted)
    assert list_checkpoints(tmp_path) == []


def test_evaluation_is_the_mean_over_trained_tokens(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    held_out = [packed_batch(2, seed=50), packed_batch(1, (32,), seed=51)]
    run = Trainer(
        tiny_config(tmp_path, eval_every=4),
        tiny_model(),
        LanguageModelling(),
        tiny_batches(),
        held_out,
        on_evaluation=lambda step, numbers: seen.append((step, numbers)),
    )
    result = run.run()
    assert [step for step, _ in seen] == [4, 8, 10]
    assert result.evaluation == seen[-1][1]
    assert run.model.training
    with torch.no_grad():
        outputs = [LanguageModelling().loss(run.model, batch) for batch in held_out]
    mean = sum(float(o.loss) for o in outputs) / sum(o.weight for o in outputs)
    assert result.evaluation["loss"] == pytest.approx(mean, rel=1e-5)
    written = [line["eval_loss"] for line in read_metrics(tmp_path / "metrics.jsonl") if "eval_loss" in line]
    assert written == [numbers["loss"] for _, numbers in seen]


def test_epochs_become_steps(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=None, epochs=1.5, gradient_accumulation=2)
    assert run.total_steps == math.ceil(1.5 * 7 / 2)


def test_a_changed_configuration_is_refused_by_name(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    changed = trainer(tmp_path, steps=2, learning_rate=3e-2)
    with pytest.raises(ConfigError, match=r"learning_rate \(was 0.01, is 0.03\)"):
        changed.run(resume=True)
    trainer(tmp_path, steps=2, eval_every=1, num_threads=1).run(resume=True)  # which change nothing that is computed


def test_another_model_or_other_data_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    with pytest.raises(CheckpointError, match="taken of another model"):
        trainer(tmp_path, tiny_model(hidden_size=16, head_dim=4), steps=2).run(resume=True)
    other = Trainer(tiny_config(tmp_path, steps=2), tiny_model(), LanguageModelling(), tiny_batches(count=6))
    with pytest.raises(CheckpointError, match="length 7, and this data has 6"):
        other.run(resume=True)


def test_an_old_run_is_not_overwritten(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    with pytest.raises(CheckpointError, match="holds a run already"):
        trainer(tmp_path, steps=2).run()


def test_a_damaged_checkpoint_names_its_remedy(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    file = list_checkpoints(tmp_path)[-1] / "training.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DamagedError, match="resume from the checkpoint before it"):
        trainer(tmp_path, steps=2).run(resume=True)


def test_only_the_newest_checkpoints_are_kept_and_partial_ones_do_not_count(tmp_path: Path) -> None:
    partial = tmp_path / "checkpoints" / ".step-00000099.partial"
    partial.mkdir(parents=True)
    trainer(tmp_path, save_every=2, keep_checkpoints=2).run()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000008", "step-00000010"]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(RequestError, match="The loss of step 1 is nan"):
        trainer(tmp_path, model).run()


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    batch = packed_batch(2)
    batch.loss_weights.zero_()
    run = Trainer(tiny_config(tmp_path), tiny_model(), LanguageModelling(), ListBatches([batch]))
    with pytest.raises(RequestError, match="nothing to train on"):
        run.run()


def test_metrics_are_one_object_a_step(tmp_path: Path) -> None:
    trainer(tmp_path, warmup_steps=2).run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert lines[0]["learning_rate"] == 0.0
    assert lines[-1]["tokens"] == 640
    assert all(line["trained"] == 60 and line["grad_norm"] > 0 for line in lines)


def test_checkpointed_activations_give_the_same_run(tmp_path: Path) -> None:
    plain, saving = tiny_model(), tiny_model()
    saving.gradient_checkpointing_enable()
    runs = [trainer(tmp_path / name, model) for name, model in (("plain", plain), ("saving", saving))]
    assert runs[0].run().loss == pytest.approx(runs[1].run().loss, abs=1e-6)


def test_losses_become_a_picture(tmp_path: Path) -> None:
    from ostro.finetune.plot import plot_losses

    assert plot_losses(tmp_path) is None
    trainer(tmp_path, steps=3).run()
    path = plot_losses(tmp_path)
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
