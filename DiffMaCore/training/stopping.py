"""Ends that are asked for: Ctrl-C and SIGTERM let the step finish; a second Ctrl-C ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """While it is entered, SIGINT and SIGTERM only set ``asked``."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # only there signals can be handled
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # accelerate sends a SIGTERM after a terminal's Ctrl-C: that one must not cut the checkpoint short
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
