"""Populations that wait for each other, without an engine."""

import threading
import time

import pytest

from tests.text import vllm_tiny

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow]


class One:
    """A population."""


@pytest.fixture
def made():
    from smcgen.text.engines._vllm.company import Company

    condition = threading.Condition()
    company, ones = Company(condition), [One() for _ in range(3)]
    for one in ones:
        apart(condition, company.joined, one)
    return condition, company, ones


def apart(condition, method, one):
    """Call a method in a thread of its own."""

    def call():
        with condition:
            method(one)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def come_later(condition, company, ones, after=0.05):
    """Others come, each after a while."""

    def come():
        for one in ones:
            time.sleep(after)
            with condition:
                company.came(one)

    thread = threading.Thread(target=come)
    thread.start()
    return thread


def test_the_first_waits_while_others_keep_coming(made):
    condition, company, (a, b, c) = made
    company.patience = 10.0
    with condition:
        company.came(a)
        later = come_later(condition, company, [b, c])
        assert company.gather([a])  # of the lock the others have their turns
        assert not company.gather([a, b, c])
    later.join()


def test_nobody_waits_for_what_takes_long_or_is_over(made):
    condition, company, (a, b, c) = made
    company.patience = 0.01
    with condition:
        company.came(a)
        assert not company.gather([a])
        company.patience = 10.0
        assert not company.gather([a])  # b and c were waited for once
        for one in (a, b):
            company.left(one)
        company.came(a)
        company.gone(b)
        assert not company.gather([a])
        company.left(One())  # texts that are scored are no members
        assert not company.gather([a])
        assert c is not None


def test_nobody_waits_while_another_is_in_the_middle_of_a_step(made):
    condition, company, (a, b, c) = made
    company.patience = 10.0
    with condition:
        company.gone(c)
    for one in (a, b):
        apart(condition, company.came, one)
    with condition:
        company.stepping([a, b])
        company.left(a)
        began = time.monotonic()
        assert not company.gather([b])
        company.left(b)
    apart(condition, company.came, b)  # both have their step, and b the next one
    with condition:
        later = come_later(condition, company, [a])
        assert company.gather([b])
        assert time.monotonic() - began < 10.0
    later.join()


def test_nobody_waits_for_itself(made):
    """One thread may drive several populations, or score texts between two steps: it asks for one thing at a time."""
    condition, company, (a, b, c) = made
    company.patience = 10.0
    with condition:
        for one in (a, b, c):
            company.joined(one)  # by this thread
        company.came(a)
        assert not company.gather([a])
        company.left(a)
        scored = One()
        company.came(scored)
        began = time.monotonic()
        assert not company.gather([scored])
        assert time.monotonic() - began < 10.0


def test_a_step_of_the_engine_is_waited_for_at_most(made):
    _, company, _ = made
    company.stepped(0.004)
    assert company.patience == 0.004
    company.stepped(3.0)
    assert company.patience < 0.1
