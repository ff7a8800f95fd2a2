"""One line of progress every few seconds: stage, step, time left, and the figures of the moment."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("DiffMaCore.training")


class Progress:
    """Logs ``stage step/total, ETA, values`` at most every ``interval`` seconds, and at the end."""

    def __init__(self, stage: str, total: int, interval: float = 15.0, done: int = 0) -> None:
        self.stage, self.total, self.interval = stage, total, interval
        self._first = done
        self._start = self._last = time.monotonic()

    def update(self, done: int, **values: float) -> None:
        """Tell how many steps are done and the current values."""
        now = time.monotonic()
        if now - self._last < self.interval and done < self.total:
            return
        self._last = now
        rate = (now - self._start) / max(done - self._first, 1)
        left = int(rate * (self.total - done))
        figures = "".join(f" {key}={value:.4g}" for key, value in values.items())
        eta = f"{int(left // 60)}:{int(left % 60):02d}"
        log.info("%s %d/%d, %s left, %.2f s a step%s", self.stage, done, self.total, eta, rate, figures)
