"""Jobs advance in small pieces, end in one of three ways, and explain what went wrong."""

from __future__ import annotations

import signal

import pytest
from child_tools import Command, alive, finish, goes, poll_until, posix_only, real_interpreter, script
from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs import child_job
from DiffMaSlicerLib.jobs.job import WAIT, Job, JobCancelled, JobError, JobRunner, JobState

HELLO = """echo '{"event": "hello", "pid": '$$', "version": "0", "protocol": 1}'"""


class Work(Job):
    """A job whose generator is given."""

    def __init__(self, steps) -> None:
        super().__init__("a test")
        self._steps = steps

    def steps(self):
        return self._steps(self)


def test_a_job_gives_its_result_and_a_poll_keeps_to_its_budget(monkeypatch):
    done = 0

    def steps(job):
        nonlocal done
        while done < 50:
            done += 1
            yield None
        return 42

    job = Work(steps)
    job.start()
    monkeypatch.setattr("time.monotonic", lambda: 2.0 * done)  # each step takes two seconds
    assert not job.poll(9.0) and done == 5
    assert job.poll(1000.0) and done == 50
    assert job.state is JobState.DONE and job.result == 42 and job.fraction == 1.0


def test_waiting_ends_a_poll_at_once():
    def steps(job):
        while True:
            yield WAIT

    job = Work(steps)
    job.start()
    assert not job.poll(1e9)
    job.abort()
    assert job.state is JobState.CANCELLED


def test_a_cancelled_job_may_wind_down_before_it_ends():
    def steps(job):
        try:
            while True:
                yield WAIT
        except JobCancelled:
            yield WAIT
            yield WAIT
            raise

    job = Work(steps)
    job.start()
    job.poll()
    job.cancel(keep_partial=True)
    assert not job.finished and job.keep_partial
    assert finish(job).state is JobState.CANCELLED


def test_a_job_cancelled_by_its_own_listener_ends():
    def steps(job):
        while True:
            job.tell("progress")
            yield WAIT

    job = Work(steps)
    job.add_listener(lambda job, what: job.cancel())
    assert finish(job).state is JobState.CANCELLED


def test_a_failing_listener_does_not_stop_the_work():
    def steps(job):
        yield None
        return "done"

    job = Work(steps)
    told = []
    job.add_listener(lambda job, what: 1 / 0)
    job.add_listener(lambda job, what: told.append(what))
    assert finish(job).result == "done" and told[-1] == "done"


def test_a_bug_becomes_a_failure_that_asks_for_the_log():
    def steps(job):
        yield None
        raise ValueError("surprise")

    job = finish(Work(steps))
    assert job.state is JobState.FAILED and "surprise" in str(job.error) and "log" in job.error.remedy


def test_the_runner_waits_without_a_timer_and_gives_up_in_time():
    def steps(job):
        while True:
            yield WAIT

    runner, job = JobRunner(), Work(steps)
    assert runner.wait(job, timeout=0.05) is False and runner.jobs == [job]
    runner.abort_all()
    assert runner.jobs == [] and job.state is JobState.CANCELLED


@posix_only
@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("exit 0", "Interpreter", "could not run"),
        (f"{HELLO}; exit 0", "NoResult", "without a result"),
        (f"{HELLO}; echo sorry >&2; exit 5", "NoResult", "sorry"),
        (f"{HELLO}; kill -9 $$", "Killed", "memory ran out"),
        (f"{HELLO}; kill -11 $$", "Crashed", "signal 11"),
        ("echo \"x.py: No module named 'DiffMaCore'\" >&2; exit 1", "MissingPackage", "DiffMaCore"),
        (f"""{HELLO}; echo '{{"event": "error", "message": "bad; mend it", "kind": "InputError"}}'; exit 2""",
         "InputError", "bad; mend it"),
        (f"""{HELLO}; echo '{{"event": "result", "a": 1}}'; exit 7""", "NoResult", "exit status 7"),
    ],
)  # fmt: skip
def test_a_child_that_ends_badly_is_explained(tmp_path, text, kind, words):
    job = finish(Command(script(tmp_path, text), "anything"))
    assert job.state is JobState.FAILED and job.error.kind == kind and words in job.error.message
    assert job.error.remedy or kind == "InputError"
    assert not job.used[0].exists(), "the private folder is gone"


@posix_only
def test_garbage_on_standard_output_goes_to_the_log_and_harms_nothing(tmp_path):
    garbage = "head -c 3000 /dev/urandom; echo; echo '{\"event\": 5}'; echo hi"
    job = finish(Command(script(tmp_path, f"""{garbage}; {HELLO}; echo '{{"event": "result", "a": 1}}'"""), "x"))
    assert job.state is JobState.DONE and job.result == {"a": 1} and "hi" in job.log


@posix_only
def test_a_child_that_never_says_hello_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(child_job, "HELLO_SECONDS", 0.3)
    job = finish(Command(script(tmp_path, "exec sleep 99"), "x"))
    assert job.error.kind == "Interpreter" and "did not answer" in job.error.message
    assert not job.process.running


def test_an_interpreter_that_is_not_there_or_not_executable_is_named(tmp_path):
    missing = finish(Command(Interpreter(str(tmp_path / "none"), {}, str(tmp_path)), "x"))
    assert missing.error.kind == "Interpreter" and "does not exist" in missing.error.message
    (tmp_path / "text").write_text("no program")
    text = finish(Command(Interpreter(str(tmp_path / "text"), {}, str(tmp_path)), "x"))
    assert text.error.kind == "Interpreter" and "text" in text.error.message and "Python" in text.error.remedy


@posix_only
def test_cancel_ends_a_stubborn_child_with_its_children(tmp_path):
    text = f"""trap '' TERM; sh -c "trap '' TERM; sleep 97" & echo $! > {tmp_path}/pid; {HELLO}; wait; sleep 98"""
    job = Command(script(tmp_path, text), "x")
    poll_until(job, lambda: job._answered)
    grandchild = int((tmp_path / "pid").read_text())
    job.cancel()
    assert not job.finished and job.process.running, "cancel itself waits for nothing"
    finish(job)
    assert job.state is JobState.CANCELLED
    assert not job.process.running and not alive(grandchild)
    assert not job.used[0].exists()


@posix_only
def test_abort_ends_the_child_at_once(tmp_path):
    job = Command(script(tmp_path, f"trap '' TERM; {HELLO}; sleep 99"), "x")
    poll_until(job, lambda: job._answered)
    pid = job.process.pid
    job.abort()
    assert job.state is JobState.CANCELLED and not job.used[0].exists()
    assert goes(lambda: alive(pid))


def test_the_real_child_answers_and_ends_with_its_watchdog(tmp_path):
    job = Command(real_interpreter(tmp_path), "info")
    finish(job)
    assert job.state is JobState.DONE, job.error
    assert any(device["name"] == "cpu" and device["available"] for device in job.result["devices"])
    assert not job.used[0].exists()


@posix_only
def test_the_real_child_ends_when_the_lifeline_is_all_that_is_cut(tmp_path):
    job = Command(real_interpreter(tmp_path), "info")
    poll_until(job, lambda: job._answered)
    job.process._close_watchdog()
    finish(job)
    assert not job.process.running
    assert isinstance(job.error, JobError) or job.state is JobState.DONE


@posix_only
def test_the_real_child_killed_by_the_system_is_explained(tmp_path):
    job = Command(real_interpreter(tmp_path), "info")
    poll_until(job, lambda: job._answered)
    import os

    os.kill(job.process.pid, signal.SIGKILL)
    assert finish(job).error.kind == "Killed"
