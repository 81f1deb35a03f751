"""What a person sees of a training: a header, a line an epoch, the best so far. The log file has everything."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner
from tqdm import tqdm

from covidmm.utils.distributed import is_first

_COVIDMM = Path(__file__).resolve().parents[1]
_LOGGING = (str(Path(logging.__file__).parent), str(Path(mmengine.__file__).parent / "logging"))
#: What MMEngine says of itself at every start, and nobody can do anything about.
_OF_ITSELF = ("will be deprecated in future", "is the alias of")


class ConsoleFilter(logging.Filter):
    """Lets what covidmm says through, and warnings; MMEngine's own tables, configs and lines stay in the log file."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is printed."""
        if record.levelno >= logging.ERROR:
            return True
        if record.levelno >= logging.WARNING:
            return not any(text in record.getMessage() for text in _OF_ITSELF)
        return _COVIDMM in _caller().parents


def _caller() -> Path:
    """The file that logs, whichever of MMEngine's functions it calls."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_LOGGING)):
        frame = frame.f_back
    return Path(frame.f_code.co_filename)


def quiet(logger: logging.Logger) -> None:
    """Have a logger print only what :class:`ConsoleFilter` lets through, without time and level."""
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            if not any(isinstance(one, ConsoleFilter) for one in handler.filters):
                handler.addFilter(ConsoleFilter())
            handler.setFormatter(_Plain())


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


@contextmanager
def quiet_reading() -> Iterator[None]:
    """Leave out MMEngine's line for each environment variable that a config file reads."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class ConsoleHook(Hook):
    """Prints a header as a training begins, a line for each epoch or validation, and where the best checkpoint is."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._began = self._epoch_began = 0.0
        self._best: tuple[float, int] | None = None

    def before_train(self, runner: Runner) -> None:
        """Say what is trained on what, on which device, and where everything goes."""
        self._began = self._epoch_began = time.monotonic()
        if not is_first():
            return
        model = getattr(runner.model, "module", runner.model)
        count = sum(one.numel() for one in model.parameters())
        free = sum(one.numel() for one in model.parameters() if one.requires_grad)
        frozen = f", {(count - free) / 1e6:.1f} of them frozen" if free < count else ""
        loop, loader = runner.train_loop, runner.train_dataloader
        images = len(loader.dataset)
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        length = f"{loop.max_epochs} epochs of {len(loader)} steps" if by_epoch else f"{loop.max_iters} steps"
        begun = runner.epoch if by_epoch else runner.iter
        print(f"config  {runner.cfg.filename}")
        print(f"data    {images} training images{_data_of(runner.cfg)}")
        print(f"model   {type(model).__name__}, {count / 1e6:.1f} million parameters{frozen}")
        print(f"device  {next(model.parameters()).device}, {length}{f', {begun} of them done' if begun else ''}")
        print(f"output  {runner.work_dir}; all that is logged: {runner.logger.log_file}", flush=True)

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin the bar of an epoch, in a terminal."""
        self._epoch_began = time.monotonic()
        if is_first():
            total = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else None
            self._bar = tqdm(total=total, desc=f"epoch {runner.epoch + 1}", unit="step", leave=False, disable=None)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update()

    def after_train_epoch(self, runner: Runner) -> None:
        """Print the epoch's line, unless a validation follows, which prints it."""
        self._close()
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and not _validates(runner, runner.epoch + 1):
            self._print(runner, runner.epoch + 1, loop.max_epochs, "epoch", {})

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Print the line of the epoch, or of the steps, that was validated."""
        self._close()
        loop = runner._train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            self._print(runner, runner.epoch, loop.max_epochs, "epoch", metrics or {})
        elif loop is not None and not isinstance(loop, dict):
            self._print(runner, runner.iter, loop.max_iters, "step", metrics or {})

    def after_train(self, runner: Runner) -> None:
        """Say how long it took and where the best checkpoint is."""
        self._close()
        if is_first():
            found = sorted(Path(runner.work_dir).glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
            best = f"; best checkpoint: {found[-1]}" if found else ""
            print(f"trained in {_clock(time.monotonic() - self._began)}{best}", flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, runner: Runner, done: int, total: int, unit: str, metrics: Mapping[str, float]) -> None:
        if not is_first():
            return
        scalars = runner.message_hub.log_scalars
        loss = scalars["train/loss"].mean() if "train/loss" in scalars else float("nan")
        parts = [f"{unit} {done}/{total}", f"loss {loss:.4f}"]
        if name := _judged_by(runner, metrics):
            value = float(metrics[name])
            if self._best is None or value > self._best[0]:
                self._best = value, done
            parts.append(f"{name.rpartition('/')[2]} {value:.4f} (best {self._best[0]:.4f}, {unit} {self._best[1]})")
        now = time.monotonic()
        left = (total - done) * (now - self._epoch_began)
        parts.append(
            f"{_clock(now - self._epoch_began)}" + (f", {_clock(left)} left" if unit == "epoch" and left else "")
        )
        print("  ".join(parts), flush=True)


def _data_of(cfg: Any) -> str:
    dataset = cfg.train_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    return f" of {dataset.data_root}" if dataset.get("data_root") else ""


def _validates(runner: Runner, epoch: int) -> bool:
    loop = runner.train_loop
    due = epoch >= loop.val_begin and (epoch % loop.val_interval == 0 or epoch == loop.max_epochs)
    return runner.val_loop is not None and due


def _judged_by(runner: Runner, metrics: Mapping[str, float]) -> str | None:
    """The metric that chooses the best checkpoint, else the first one."""
    saved = [hook for hook in runner.hooks if getattr(hook, "key_indicators", None)]
    names = [name for hook in saved for name in hook.key_indicators if name in metrics]
    return (names or list(metrics) or [None])[0]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
