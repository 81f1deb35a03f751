"""MMEngine's runner with errors that name the checkpoint, and logs of its own for every run of a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from mmengine.logging import MMLogger
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from covidmm.engine.console import quiet
from covidmm.engine.model_checks import check_ops
from covidmm.errors import CheckpointError, CovidmmError


class CheckedRunner(Runner):
    """MMEngine's runner, whose errors name a checkpoint that its hooks, optimizer or schedulers cannot load.

    Runs of one process have logs, scalars and messages of their own, which MMEngine shares among runs whose visualizers
    have one name, or that begin in the same second.
    """

    _begun: ClassVar[Counter[str]] = Counter()

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the processes and the time stamp that names this run; see MMEngine."""
        super().setup_env(env_cfg)
        self._begun[self._timestamp] += 1
        if (number := self._begun[self._timestamp]) > 1:
            self._timestamp += f"_{number}"

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger of this run, whose console has what people need; see MMEngine."""
        logger = super().build_logger(*args, **kwargs)
        quiet(logger)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build the visualizer of this run; see MMEngine."""
        if isinstance(visualizer, dict):
            visualizer = {**visualizer, "name": f"{visualizer.get('name', 'visualizer')}_{self._experiment_name}"}
        return super().build_visualizer(visualizer)

    def build_model(self, model: Any) -> nn.Module:
        """Build the model; see MMEngine.

        Raises:
            ConfigError: a part of it needs a compiled MMCV.
        """
        built = super().build_model(model)
        check_ops(built)
        return built

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Load weights; see MMEngine.

        Raises:
            CheckpointError: they belong to another model.
        """
        with _naming_checkpoint(filename, "loaded"):
            return super().load_checkpoint(filename, *args, **kwargs)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a training, or warn that nothing of it is left; see MMEngine.

        Raises:
            CheckpointError: the checkpoint belongs to another training.
        """
        with _naming_checkpoint(filename, "resumed"):
            super().resume(filename, *args, **kwargs)
        unit, done, length = "epoch", self.epoch, self.max_epochs
        if isinstance(self.train_loop, IterBasedTrainLoop):
            unit, done, length = "iter", self.iter, self.max_iters
        if done >= length:
            self.logger.warning(
                f"{filename}: nothing is left to train, {unit} {done} of {length} is finished; "
                f"raise train_cfg.max_{unit}s to continue"
            )


@contextmanager
def _naming_checkpoint(filename: str, verb: str) -> Iterator[None]:
    try:
        yield
    except (CovidmmError, OSError):
        raise
    except Exception as error:  # the file may hold anything
        cause = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{filename}: cannot be {verb} ({type(error).__name__}: {cause})") from error
