"""Being told to end: the step that runs is finished and saved, then training stops with the exit code of the signal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from accelerate import Accelerator

from jepa_actions.errors import JepaActionsError


class TerminatedError(JepaActionsError):
    """Training was told to end by SIGTERM (pre-emption) and has saved; the command exits with `exit_code`, 143."""

    exit_code = 128 + signal.SIGTERM


class StopRequest:
    """Whether any process of this training was sent SIGTERM."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._told = threading.Event()

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take SIGTERM while the block runs; a second one ends the process at once. In a thread that is not the main
        one signals cannot be taken, and nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._tell)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Whether to end after this step; the same answer on every process, which all ask after every step."""
        told = self._told.is_set()
        if self._accelerator.num_processes == 1:
            return told
        count = torch.tensor(float(told), device=self._accelerator.device)
        return bool(self._accelerator.reduce(count) > 0)
