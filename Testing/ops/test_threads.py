"""The pool of threads for kernels: nothing goes on working once its caller is told of an error."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from DiffMaCore.ops.scan.threads import run_tasks


def test_threads_that_still_work_are_waited_for_when_the_callers_own_task_fails() -> None:
    threads = torch.get_num_threads()
    begun, ended = threading.Event(), threading.Event()

    def work(first: int, last: int) -> None:
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
            raise ArithmeticError("mine failed")
        begun.set()
        time.sleep(0.3)
        ended.set()

    torch.set_num_threads(2)
    try:
        with pytest.raises(ArithmeticError, match="mine failed"):
            run_tasks(2, work, turns=1)
        assert ended.is_set()
    finally:
        torch.set_num_threads(threads)
