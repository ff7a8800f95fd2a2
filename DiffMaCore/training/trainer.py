"""A task in, a trained run folder out: the one loop, on one processor or many nodes, stopped and resumed at will."""

from __future__ import annotations

import copy
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, convert_to_fp32
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from DiffMaCore.devices import choose_device
from DiffMaCore.errors import InputError, OutputError, TrainingError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import (
    Batch,
    Order,
    ShardedRNG,
    feed,
    micro_batches,
    spread_batch,
    stream,
    to_device,
)
from DiffMaCore.training.checkpoints import restore, state
from DiffMaCore.training.experiment import TrainConfig
from DiffMaCore.training.files import is_full
from DiffMaCore.training.run_folder import Board, MetricsLog, RunFolder, Window
from DiffMaCore.training.task import Task

_PATIENCE = timedelta(hours=12)  # of processes that wait while process 0 encodes, samples or writes
_BYTES_A_PARAMETER = 16  # weights, their average and two moments of AdamW, float32
_FREE = ("steps", "micro_batch", "log_every", "sample_every", "checkpoint_every", "workers")
"""Of TrainConfig: what may change within a run, since no step's result depends on it."""
_NAMED = 6  # slices in an error


def deciding(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide what every step does."""
    return {name: value for name, value in asdict(config).items() if name not in _FREE}


def make_accelerator(device: str = "auto") -> Accelerator:
    """What knows the processes and the device: CPU, one GPU, or whatever `accelerate launch` or torchrun started.

    ``device`` is "auto" (a GPU where there is one), "cpu", or one GPU such as "cuda:1" for a single process. Raises
    BackendError for a device that is not there, InputError for a way to launch that is not supported.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    accelerator = Accelerator(
        cpu=chosen.type == "cpu",  # without a GPU it finds the other processes only if this is given
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    kind = accelerator.distributed_type.value
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU"):
        raise InputError(f"training was launched for {kind}; run `accelerate launch` with --multi_gpu, or without")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:  # each would write over the others' run
        raise InputError(f"{launched} processes were launched and cannot work together on {chosen.type}; launch one")
    return accelerator


def train(
    task: Task,
    config: TrainConfig,
    run: RunFolder,
    seed: int,
    reporter: Reporter,
    accelerator: Accelerator | None = None,
) -> None:
    """Train ``task`` for ``config.steps`` steps, from its newest checkpoint if there is one, and let it finish.

    Raises:
        InputError: a batch that cannot be spread, or another configuration than the run was begun with.
        OutputError: too little room for the checkpoints.
        TrainingError: a loss or gradient is not finite.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, with a checkpoint and a message how to go on.
    """
    _Training(task, config, run, seed, reporter, accelerator or make_accelerator()).run()


class _Training:
    """One call of :func:`train`."""

    def __init__(
        self, task: Task, config: TrainConfig, run: RunFolder, seed: int, reporter: Reporter, accelerator: Accelerator
    ) -> None:
        self.task, self.config, self.folder, self.seed = task, config, run, seed
        self.accelerator, self.main, self.device = accelerator, accelerator.is_main_process, accelerator.device
        self.reporter = reporter if self.main else Reporter()
        self.spread = spread_batch(config, accelerator.num_processes, task.whole_batch)
        if task.whole_batch and len(task.dataset) < config.batch_size:
            raise InputError(
                f"{task.name} contrasts {config.batch_size} different slices at once and there are {len(task.dataset)};"
                f" set batch_size to {len(task.dataset)} or less"
            )
        self.settings = {"seed": seed, "task": task.name, **task.settings, "train": deciding(config)}
        rows = None if getattr(task.dataset, "in_order", False) else len(task.dataset)
        self.order = Order(rows, config.batch_size, seed)
        self.parameters = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
        self.failure: dict[str, Any] = {}

    def run(self) -> None:
        count = sum(p.numel() for p in self.task.model.parameters())
        self.folder.checkpoints.require_room(count * _BYTES_A_PARAMETER)
        self._resume()
        if self.step >= self.config.steps and self.folder.finished == self.step:
            self.reporter.note(f"{self.task.name} is trained already: {self.step} steps, in {self.folder.path}")
            return
        self.model = self.accelerator.prepare(_Precision(self.task.model, self.config.precision, self.device.type))
        if self.main:
            self._open(count)
        try:
            self._train()
        except Exception as error:
            if self.main:
                with suppress(OSError, OutputError):  # a full disk: the first error is the one to tell
                    self.folder.tell("failed", self.step, ended=True, failure=self.failure or {"message": str(error)})
            if is_full(error):
                raise OutputError(f"the disk of {self.folder.path} is full; free some room and start again") from error
            raise
        finally:
            self.accelerator.free_memory()

    def _resume(self) -> None:
        """Model, average and optimiser as the newest checkpoint has them, or as they begin."""
        found = self.folder.checkpoints.newest(self.settings, self.reporter)
        self.step = int(found.facts["step"]) if found else 0
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.device))
        if steps.min() != steps.max():
            raise InputError(f"not every process sees the checkpoints in {self.folder.path}; name a folder they share")
        self.window = Window(**found.facts["window"]) if found else Window()
        self.task.model.to(self.device).train()
        self.average = copy.deepcopy(self.task.model).eval().requires_grad_(False)
        self.ema = EMAModel(self.average.parameters(), self.config.ema, foreach=True)
        self.ema.shadow_params = list(self.average.parameters())  # what it averages into is a model
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(),
            self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=self.device.type in ("cuda", "cpu"),
        )
        if found:
            restore(found, self.task.model, self.average, self.optimiser, self.parameters)

    def _open(self, parameters: int) -> None:
        facts = {"task": self.task.name, "seed": self.seed, "parameters": parameters, "settings": self.settings}
        spread = {"micro_batch": self.spread.micro_batch, "accumulation": self.spread.accumulation}
        session = {"processes": self.accelerator.num_processes, "device": str(self.device), **spread}
        self.folder.begin(self.step, facts, {**session, "train": asdict(self.config)})
        self.board = Board(self.folder.path / "tensorboard", self.step)
        self.board.text("settings", self.settings)
        self.metrics = MetricsLog(self.folder.metrics, self.step, self.board)
        self.sample_metrics = MetricsLog(self.folder.samples / "figures.csv", self.step, self.board)

    def _train(self) -> None:
        steps = self.config.steps
        self.reporter.stage(f"training {self.task.name}", steps, done=self.step)
        with _stop_request() as request:
            parts = micro_batches(self.order, self.spread, self.accelerator.process_index, self.step, steps)
            batches = feed(self.task.dataset, parts, self.device, self.config.workers)
            while self.step < steps:
                if self._step(batches, request):
                    if self.main:
                        self.folder.tell("stopped", self.step, ended=True)
                    self.accelerator.wait_for_everyone()
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {steps}; the same command goes on from there"
                    )
            if self.main:
                self.reporter.stage(f"writing {self.task.name}")
                self.task.finish(self.average.cpu(), self.folder.path)
                self.folder.tell("finished", self.step, ended=True)
            self.accelerator.wait_for_everyone()

    def _step(self, batches: Iterator[Batch], request: SimpleNamespace) -> bool:
        """One optimiser step; whether the run shall stop after it."""
        began = time.monotonic()
        rate = self.config.learning_rate * _share_of_rate(self.step, self.config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # for models that draw for themselves, such as dropout
        torch.manual_seed(stream(self.seed, self.step, self.accelerator.process_index).initial_seed())
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in range(self.spread.accumulation):
            last = part == self.spread.accumulation - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                metrics = self._backward(next(batches), part)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value.float() / self.spread.accumulation
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)
        own = torch.stack([*sums.values(), norm.float(), norm.new_tensor(request.asked, dtype=torch.float32)])
        *means, gradient, wish = self.accelerator.reduce(own, "mean").tolist()
        metrics_now = dict(zip(sums, means, strict=True))
        if not (math.isfinite(metrics_now["loss"]) and math.isfinite(gradient)):
            raise TrainingError(self._why_not_finite(metrics_now["loss"], gradient))
        self.optimiser.step()
        self.ema.optimization_step = self.step + 1  # as without an interruption
        self.ema.step(self.task.model.parameters())
        self.step += 1
        self.window.add({**metrics_now, "gradient_norm": gradient}, self.config.batch_size, time.monotonic() - began)
        stop = wish > 0 and self.step < self.config.steps
        if self.main:
            self._after(rate, stop)
        self.reporter.advance()
        return stop

    def _backward(self, batch: Batch, part: int) -> dict[str, Tensor]:
        first = self.spread.first(part, self.accelerator.process_index)
        shard = first, self.spread.micro_batch, self.config.batch_size
        rng = ShardedRNG(self.seed, self.step, *shard, self.device)
        loss, metrics = self.task.loss(self.model, to_device(batch, self.device), rng)
        self.accelerator.backward(loss / self.spread.accumulation)
        return {"loss": loss.detach(), **metrics}

    def _after(self, rate: float, stop: bool) -> None:
        """What is due after a step, on process 0: log, sample, checkpoint."""
        last = self.step == self.config.steps
        if last or self.step % self.config.log_every == 0:
            metrics = {**self.window.means(), "learning_rate": rate}
            self.window = Window()
            self.metrics.add(self.step, metrics)
            self.reporter.metrics(**{name: metrics[name] for name in ("loss", "samples_per_second")})
        if last or self.step % self.config.sample_every == 0:
            self._sample()
        if last or stop or self.step % self.config.checkpoint_every == 0:
            place = {"step": self.step, "seed": self.seed, "position": self.step * self.config.batch_size}
            facts = {**place, "settings": self.settings, "window": asdict(self.window)}
            tensors = state(self.task.model, self.average, self.optimiser, self.parameters)
            self.folder.checkpoints.save(tensors, facts)
            self.folder.tell("training", self.step)

    def _sample(self) -> None:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            sample = self.task.sample(self.average)
        if sample is None:
            return
        self.folder.keep(self.step, sample)
        if sample.metrics:
            self.sample_metrics.add(self.step, sample.metrics)
        if sample.picture is not None:
            self.board.picture(self.step, "samples", sample.picture)

    def _why_not_finite(self, loss: float, gradient: float) -> str:
        """One sentence on a step whose loss or gradient is not finite, and the same in full for run.json; nothing of
        it has touched the weights."""
        rows, batch, step = self.task.dataset, self.order.batch(self.step), self.step + 1
        bad = [
            f"{name} of {rows.where(row)}"
            for row in batch
            for name, value in rows.batch([row]).items()
            if not value.isfinite().all()
        ]
        where = [rows.where(row) for row in batch]
        self.failure = {"step": step, "loss": str(loss), "gradient_norm": str(gradient), "batch": where}
        if bad:
            self.failure["not_finite"] = bad
            return (
                f"step {step} was not made: {_some(bad)} is not finite; mend that case or leave it out and run"
                " `diffma prepare` again"
            )
        what = f"the loss is {loss}"
        if math.isfinite(loss):
            gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
            broken = self.failure["gradients"] = [name for name, g in gradients.items() if not g.isfinite().all()]
            what = (
                f"the gradient is not finite, first in {broken[0]}" if broken else "the gradient's norm is not finite"
            )
        return (
            f"step {step} was not made: {what}, though all data of its batch is finite ({_some(where)});"
            " train under another --out with a lower learning_rate or precision: fp32"
        )


def _share_of_rate(step: int, config: TrainConfig) -> float:
    """Of the learning rate, in the step after ``step``: up over the warm-up, down to 0 over the cool-down."""
    left = (config.steps - step) / max(config.cooldown * config.steps, 1)
    return min(1.0, (step + 1) / max(config.warmup, 1), left)


def _some(words: list[str]) -> str:
    more = len(words) - _NAMED
    return "; ".join(words[:_NAMED]) + (f"; and {more} more, which run.json names" if more > 0 else "")


@contextmanager
def _stop_request() -> Iterator[SimpleNamespace]:
    """Within the block SIGINT and SIGTERM only set ``asked``, so that the step ends; a second Ctrl-C ends at once."""
    request = SimpleNamespace(asked=False)

    def ask(number: int, frame: object) -> None:
        # accelerate sends a SIGTERM after a terminal's Ctrl-C: that one must not cut the checkpoint short
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.asked = True

    in_main = threading.current_thread() is threading.main_thread()  # only there signals can be handled
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM) if in_main}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Precision(nn.Module):
    """The model under bf16 where it is asked for; its outputs are float32 either way."""

    def __init__(self, model: nn.Module, precision: str, device: str) -> None:
        super().__init__()
        self.model, self.device, self.enabled = model, device, precision == "bf16"

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.enabled):
            outputs = self.model(*args, **kwargs)
        return convert_to_fp32(outputs)
