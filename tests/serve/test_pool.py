"""The pool: bounded, first come first served, and every job ends exactly once."""

import threading
from types import SimpleNamespace

import pytest

from smcgen.errors import InvalidArgument
from smcgen.serve.pool import Draining, Pool, QueueFull, Stopped
from tests.serve.running import until


@pytest.fixture
def pool():
    ended = []
    made = Pool(1, 2, lambda job, error: ended.append((job.label, error)))
    made.ended = ended
    yield made
    made.close()


def blocked(pool, label="blocked", seconds=60):
    """A running job that ends when it is let go."""
    go = threading.Event()

    def work(callback):
        go.wait(30)
        callback(SimpleNamespace(t=1))
        return label

    job = pool.submit(work, seconds, label)
    until(lambda: pool.running == 1)
    return job, go


def test_results_and_errors_are_the_jobs_own(pool):
    assert pool.submit(lambda callback: 1, 60).future.result(10) == 1
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda callback: 1 / 0, 60).future.result(10)
    with pytest.raises(SystemExit):
        pool.submit(lambda callback: exit(), 60).future.result(10)
    assert pool.submit(lambda callback: 2, 60).future.result(10) == 2


def test_a_full_queue_refuses_and_a_left_place_is_free(pool):
    job, go = blocked(pool)
    first, second = (pool.submit(lambda callback, i=i: i, 60, str(i)) for i in range(2))
    with pytest.raises(QueueFull, match="1 running, 2 waiting") as raised:
        pool.submit(lambda callback: None, 60)
    assert raised.value.seconds > 0
    first.stop("disconnect")
    with pytest.raises(Stopped, match="disconnect"):
        first.future.result(0)
    third = pool.submit(lambda callback: 3, 60)
    go.set()
    assert [one.future.result(10) for one in (job, second, third)] == ["blocked", 1, 3]
    assert [label for label, _ in pool.ended][:2] == ["0", "blocked"]


def test_a_running_job_stops_at_its_next_step(pool):
    job, go = blocked(pool)
    job.stop("disconnect")
    job.stop("timeout")
    assert not job.future.done()
    go.set()
    with pytest.raises(Stopped, match="disconnect"):
        job.future.result(10)
    assert pool.running == 0


def test_time_is_up(pool):
    job, go = blocked(pool, seconds=0.0)
    go.set()
    with pytest.raises(Stopped, match="timeout"):
        job.future.result(10)


def test_draining(pool):
    job, go = blocked(pool)
    waiting = pool.submit(lambda callback: 1, 60)
    pool.drain()
    with pytest.raises(Draining):
        pool.submit(lambda callback: 2, 60)
    go.set()
    assert job.future.result(10) == "blocked"
    assert waiting.future.result(10) == 1


def test_closing_ends_all(pool):
    job, go = blocked(pool)
    waiting = pool.submit(lambda callback: 1, 60)
    pool.close()
    go.set()
    for one in (job, waiting):
        with pytest.raises(Stopped, match="shutdown"):
            one.future.result(10)


def test_many_jobs_from_many_threads():
    ended = []
    pool = Pool(4, 1000, lambda job, error: ended.append(job.label))
    jobs = {}

    def submit(i):
        jobs[i] = pool.submit(lambda callback: i, 60, str(i))
        if i % 7 == 0:
            jobs[i].stop("disconnect")

    threads = [threading.Thread(target=submit, args=(i,)) for i in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, job in jobs.items():
        assert job.future.exception(10) is not None or job.future.result() == i
    until(lambda: pool.running == 0)
    assert sorted(ended, key=int) == [str(i) for i in range(200)]  # each once
    pool.close()


@pytest.mark.parametrize(("threads", "waiting"), [(0, 1), (1, -1)])
def test_sizes(threads, waiting):
    with pytest.raises(InvalidArgument):
        Pool(threads, waiting)


def test_a_job_that_is_given_up_is_answered_before_its_step_ends():
    began, go_on, ends = threading.Event(), threading.Event(), []

    def work(callback):
        began.set()
        assert go_on.wait(30)
        return "late"

    pool = Pool(1, 1, lambda job, error: ends.append(error))
    runs, waits = pool.submit(work, 60), pool.submit(work, 60)
    assert began.wait(30)
    pool.stop_all("shutdown", at_once=True)
    for job in (runs, waits):
        assert isinstance(job.future.exception(0), Stopped)
    go_on.set()  # what it returns is for nobody
    until(lambda: len(ends) == 2)
    pool.close()
