"""Costs add up, and peaks are those of a meter's own time."""

import mmap
import sys

import jax
import pytest

from smcgen.core.cost import Cost, Meter

LARGE = 64 * 2**20


def held(size):
    """So much resident memory."""
    block = mmap.mmap(-1, size)
    block.write(b"x" * size)
    return block


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark can be set back on Linux")
def test_peaks_are_of_their_own_time():
    outer = Meter(memory=True)
    before = outer.read().peak_memory
    block = held(LARGE)
    block.close()
    inner = Meter(memory=True)  # it begins after the peak, which the other one still knows
    assert outer.read().peak_memory - before > 0.9 * LARGE
    assert inner.read().peak_memory < outer.read().peak_memory - 0.5 * LARGE
    assert Meter().read().peak_memory == 0


def test_sums_have_the_largest_peak():
    a = Cost(tokens_generated=3, seconds=1.0, peak_memory=5 * 2**20)
    b = Cost(tokens_generated=4, seconds=0.5, peak_memory=2**20, peak_gpu_memory=7 * 2**20)
    both = a + b
    assert both == Cost(7, seconds=1.5, peak_memory=5 * 2**20, peak_gpu_memory=7 * 2**20)
    assert str(both) == (
        "Cost(tokens_generated=7, seconds=1.50, peak_memory=5MiB, peak_gpu_memory=7MiB)"
    )
    assert Cost.from_array(both.as_array()) == both
    assert jax.tree.map(lambda x: x, both) == both
