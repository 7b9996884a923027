"""The one training loop behind every stage, on accelerate: a CPU, a GPU or several processes.

Every step depends on (weights, optimiser, step) alone, so a run that was killed and resumed ends with the
same parameters, bit for bit, as one that was not.
"""

import math
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from sdlab import SdlabError

from .checkpoints import (
    CURRENT,
    PREVIOUS,
    averaged_weights,
    history_of,
    load_checkpoint,
    load_state,
    save_checkpoint,
    save_snapshot,
)
from .log import LOG, append_log, forget_after
from .optimizers import make_optimizer
from .schedule import Schedule, StopFlag


class Stage:
    """One thing to train: its network stands in `objective`, a module that returns (loss, {name: tensor})."""

    name = ""

    def __init__(self, settings, device):
        self.settings = settings
        self.device = device

    def draw_batch(self, step, rank):
        """Return what the step needs from the CPU (indices, captions); may run in a worker process."""
        raise NotImplementedError

    def adapt(self, weights):
        """Return the weights of another run in the shapes of this one's network."""
        return weights

    def loss(self, objective, batch, *, step, rank, progress):
        """Move the batch to the device and return objective(...)."""
        raise NotImplementedError

    def report(self, folder, step):
        """Judge the averaged weights (already in place), write a sample sheet, return numbers for the log."""
        return {}

    def info(self):
        """Return plain values that belong with the weights (a scaling factor, a hash)."""
        return {}

    def state(self):
        """Return tensors that the next step needs and that no seed brings back."""
        return {}

    def load_state(self, state):
        """Go on from what ``state()`` returned."""


class _Batches(Dataset):
    """Step number -> batch, so that a DataLoader can prepare the next steps in worker processes."""

    def __init__(self, stage, rank, last):
        self.stage, self.rank, self.last = stage, rank, last

    def __len__(self):
        return self.last

    def __getitem__(self, step):
        return self.stage.draw_batch(step, self.rank)


def make_accelerator(settings, *, cpu=False):
    """Return the Accelerator of a run; mixed_precision "auto" means bf16 on CUDA and none on a CPU."""
    cpu = cpu or not torch.cuda.is_available()
    torch.set_float32_matmul_precision("highest" if cpu else "high")
    precision = settings.mixed_precision
    if precision == "auto":
        precision = "no" if cpu else "bf16"
    if precision not in ("no", "bf16"):
        raise SdlabError(f"Setting 'mixed_precision' must be auto, no or bf16, but got {precision!r}.")
    plain_copies = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[plain_copies])


class Trainer:
    """Train one stage in one folder: resume, step, log, report, save."""

    def __init__(self, stage, accelerator, folder):
        self.stage, self.accelerator, self.folder = stage, accelerator, Path(folder)
        self.settings = stage.settings
        self.network = stage.objective.to(accelerator.device)
        if self.settings.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.names = [name for name, _ in self.network.named_parameters()]
        self.step, self.views, self.seconds = 0, 0, 0.0
        self.before = None
        self.rank, self.main = accelerator.process_index, accelerator.is_main_process
        self.schedule = Schedule(self.settings.steps, self.settings.warmup_steps)

    def run(self, *, fresh=False, minutes=None, decay_now=None, init=None):
        """Train until the schedule ends or a signal asks to stop; return the last step."""
        self._prepare(fresh=fresh, init=init)
        self.schedule.minutes = minutes
        if decay_now:
            before = Schedule(self.settings.steps, 0, minutes).progress(self.step, self.seconds)
            self.schedule.decay = (self.step, decay_now, before)
        with StopFlag() as self.stop:
            self._loop()
        self.accelerator.wait_for_everyone()
        return self.step

    def _prepare(self, *, fresh, init):
        if fresh and self.main:
            for file in (*map(self.folder.joinpath, (CURRENT, PREVIOUS, LOG)), *self.folder.glob("snapshots/*.pt")):
                file.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        self.folder.mkdir(parents=True, exist_ok=True)
        state = load_checkpoint(self.folder, map_location=self.accelerator.device)
        if state is None and init is not None:
            start = load_state(init)
            self._load_model(self.stage.adapt(averaged_weights(start)), source=init)
            self.before = history_of(start)
        elif state is not None:
            self._check_inputs(state["info"])
            self._load_model(state["model"], source=self.folder)
        self._make_optimizer(state)
        if self.main:
            forget_after(self.folder, self.step)
        if self.settings.compile:
            self.stage.compile()
        self.objective, self.optimizer = self.accelerator.prepare(self.network, self.optimizer)

    def _load_model(self, weights, *, source):
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise SdlabError(
                f"The weights in {source} do not fit these settings ({reason[:160]}); use its, or --fresh."
            ) from None

    def _check_inputs(self, before):
        now = self.stage.info()
        changed = [name for name in now if now[name] != before.get(name)]
        if changed:
            raise SdlabError(
                f"The run in {self.folder} was trained with another {' and '.join(changed)}; "
                "bring that back, or use --fresh."
            )

    def _make_optimizer(self, state):
        settings = self.settings
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(self.network.named_parameters(), settings)
        self.ema = EMAModel(self.network.parameters(), decay=settings.ema_decay, foreach=True)
        if state is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.accelerator.device)
            self.before = state["before"]
            self.step, self.views, self.seconds = state["step"], state["views"], state["seconds"]
            if self.main:
                self.stage.load_state(state.get("stage", {}))
            self.schedule.decay = tuple(state["decay"]) if state["decay"] else None

    def _batches(self, last):
        batches = _Batches(self.stage, self.rank, last)
        steps = range(self.step, last)
        if self.settings.workers == 0:
            return (batches[step] for step in steps)
        return iter(
            DataLoader(
                batches, batch_size=None, sampler=steps, num_workers=self.settings.workers, prefetch_factor=4
            )
        )

    def _loop(self):
        last = sum(self.schedule.decay[:2]) if self.schedule.decay else self.settings.steps
        first, began, saved, stop = self.step, time.monotonic() - self.seconds, self.seconds, False
        self._reset_totals()
        bar = tqdm(total=last, initial=self.step, disable=None if self.main else True, desc=self.stage.name)
        batches = self._batches(last)
        while self.step < last:
            stop, self.seconds = self._agree(self.stop.asked, time.monotonic() - began)
            progress = self.schedule.progress(self.step, self.seconds)
            if stop or progress >= 1:
                break
            self._train_step(next(batches), progress)
            bar.update()
            if self.step % self.settings.log_every == 0:
                self._write_log(last, bar)
            if self.main and self._due(getattr(self.settings, "keep_every", 0)):
                save_snapshot(self.folder, self._state())
            if self._due(self.settings.report_every) and self.step < last:
                self._report()
            if self.seconds - saved > self.settings.save_seconds:
                self.save()
                saved = self.seconds
        self._finish(last, bar, new=self.step > first, stop=stop)

    def _finish(self, last, bar, *, new, stop):
        """Log, report and save what the last steps brought; a run that was asked to stop only saves."""
        if self.counted:
            self._write_log(last, bar)
        bar.close()
        if new and not stop and self.settings.report_every:
            self._report()
        elif new:
            self.save()
        elif self.main and not stop:
            print(f"{self.folder} is already finished (step {self.step}); nothing to do.", flush=True)

    def _agree(self, stop, seconds):
        """Let all processes see the same clock and the same wish to stop."""
        if self.accelerator.num_processes == 1:
            return stop, seconds
        mine = torch.tensor([[float(stop), seconds]], dtype=torch.float64, device=self.accelerator.device)
        stop, seconds = self.accelerator.gather(mine).amax(0).tolist()
        return bool(stop), seconds

    def _train_step(self, batch, progress):
        self.rate = self.settings.learning_rate * self.schedule.rate(self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        loss, numbers = self.stage.loss(
            self.objective, batch, step=self.step, rank=self.rank, progress=progress
        )
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.trained, self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())
        self.step += 1
        self.views += self.settings.batch_size * self.accelerator.num_processes
        for name, value in (numbers | {"loss": loss}).items():
            self.totals[name] = self.totals.get(name, 0.0) + value.detach().float()
        self.counted += 1

    def _reset_totals(self):
        self.totals, self.counted = {}, 0

    def _due(self, every):
        return every > 0 and self.step % every == 0

    def _write_log(self, last, bar):
        self._check_loss()
        means = {name: float(total) / self.counted for name, total in self.totals.items()}
        self._reset_totals()
        if self.main:
            self._append(means | {"lr": self.rate})
            bar.set_postfix(loss=f"{means['loss']:.4f}")
            if bar.disable:
                print(
                    f"{self.stage.name} step {self.step}/{last}, {self.seconds:.0f} s, "
                    f"loss {means['loss']:.4f}",
                    flush=True,
                )

    def _check_loss(self):
        """Stop before a broken state is logged or saved."""
        if not math.isfinite(float(self.totals.get("loss", 0.0))):
            rate = self.settings.learning_rate
            raise SdlabError(
                f"The loss is not finite after step {self.step}; resume with a learning_rate below {rate}: "
                "it goes on from the last sound checkpoint."
            )

    def _append(self, numbers):
        head = {"step": self.step, "views": self.views, "seconds": round(self.seconds, 1)}
        append_log(self.folder, head | {name: _rounded(value) for name, value in numbers.items()})

    def _report(self):
        self.save()
        if self.main:
            parameters = list(self.network.parameters())
            self.ema.store(parameters)
            self.ema.copy_to(parameters)
            self.network.eval()
            try:
                with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                    self._append(self.stage.report(self.folder, self.step))
            finally:
                self.network.train()
                self.ema.restore(parameters)
        self.accelerator.wait_for_everyone()

    def save(self):
        """Write a checkpoint (main process only): weights, averages, optimiser, step, settings."""
        self._check_loss()
        if self.main:
            save_checkpoint(self.folder, self._state())

    def _state(self):
        return {
            "step": self.step,
            "views": self.views,
            "before": self.before,
            "seconds": self.seconds,
            "settings": vars(self.settings),
            "info": self.stage.info(),
            "stage": self.stage.state(),
            "decay": list(self.schedule.decay) if self.schedule.decay else None,
            "parameter_names": self.names,
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value
