"""A run that is interrupted and goes on is the run that was not: array for array."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen import SMCInterrupted
from smcgen.errors import CheckpointError
from tests.core.models import OPTIONS, Host, Problems, Y, gaussian, three_chains


class Walk(smcgen.FeynmanKac):
    """A host model in numpy, double precision, with a nested state and a plain number in it."""

    num_steps, traceable = 4, False

    def __init__(self, scale=1.0, score=lambda x: -(x**2)):
        self.scale, self.score = scale, score

    def init(self, key, n):
        return {"x": self.noise(key, n), "parts": (np.zeros((n, 2)), np.arange(n))}, np.zeros(n)

    def step(self, key, t, state):
        x = state["x"] + self.noise(key, len(state["x"]))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
        return {"x": x, "parts": state["parts"]}, self.score(x)

    def noise(self, key, n):
        seed = np.asarray(jax.random.key_data(key))
        return self.scale * np.random.default_rng(seed).normal(size=n)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Keyed(smcgen.FeynmanKac):
    """Every particle has a key of its own, of a generator that is not the default, from a key of the model."""

    key: Any
    num_steps = 4

    def init(self, key, n):
        keys = jax.random.split(jax.random.fold_in(self.key, jax.random.bits(key)), n)
        return {"key": keys, "x": jnp.zeros(n)}, jnp.zeros(n)

    def step(self, key, t, state):
        keys, own = jax.vmap(jax.random.split, out_axes=1)(state["key"])
        x = state["x"] + jax.vmap(jax.random.normal)(own)
        return {"key": keys, "x": x}, -(x**2)


MODELS = {
    "keys": lambda: Keyed(jax.random.key(7, impl="rbg")),
    "host keys": lambda: Host(Keyed(jax.random.key(7, impl="threefry2x32"))),
    "traceable": lambda: gaussian(),
    "problems": lambda: Problems(three_chains()),
    "numpy": Walk,
}


def stop_after(step):
    def callback(progress):
        if progress.t == step:
            raise KeyboardInterrupt

    return callback


def assert_identical(a, b):
    a, b = (jax.tree.leaves(r.replace(cost=None)) for r in (a, b))
    for x, y in zip(a, b, strict=True):
        if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert x.dtype == y.dtype, "another generator"
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)
        assert np.asarray(x).dtype == np.asarray(y).dtype


@pytest.mark.parametrize("step", [0, 2, 4])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_resumed_is_uninterrupted(name, step, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = smcgen.smc(MODELS[name](), 3, callback=lambda progress: None, **OPTIONS)
    with pytest.raises(SMCInterrupted) as caught:
        smcgen.smc(MODELS[name](), 3, checkpoint=path, callback=stop_after(step), **OPTIONS)
    assert caught.value.result.num_steps == step
    seen = []
    resumed = smcgen.smc(
        MODELS[name](), 3, checkpoint=path, callback=lambda p: seen.append(p.t), **OPTIONS
    )
    assert seen == list(range(step + 1, 5)), "steps that were done are not done again"
    assert_identical(resumed, whole)
    assert resumed.cost.nfe == whole.cost.nfe
    assert_identical(smcgen.smc(MODELS[name](), 3, checkpoint=path, **OPTIONS), whole)
    assert [f.name for f in tmp_path.iterdir()] == ["run.safetensors"], "nothing else is left"


@pytest.mark.parametrize("keep", ["summary", "ancestors"])
def test_whatever_is_kept(keep, tmp_path):
    options = {**OPTIONS, "keep": keep}
    whole = smcgen.smc(gaussian(), 3, callback=lambda progress: None, **options)
    path = tmp_path / "run"
    with pytest.raises(SMCInterrupted):
        smcgen.smc(gaussian(), 3, checkpoint=path, callback=stop_after(2), **options)
    assert_identical(smcgen.smc(gaussian(), 3, checkpoint=path, **options), whole)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "run"
    smcgen.smc(gaussian(), 3, checkpoint=path, **OPTIONS)
    return path


@pytest.mark.parametrize(
    ("model", "key", "options"),
    [
        (lambda: gaussian(0.8), 3, {}),
        (lambda: gaussian(y=Y[:-1]), 3, {}),
        (Walk, 3, {}),
        (lambda: gaussian(), 4, {}),
        (lambda: gaussian(), 3, {"n_particles": 7}),
        (lambda: gaussian(), 3, {"ess_threshold": 0.5}),
        (lambda: gaussian(), 3, {"resampling": "ssp"}),
        (lambda: gaussian(), 3, {"keep": "ancestors"}),
    ],
)
def test_another_run_is_refused(model, key, options, written):
    before = written.read_bytes()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        smcgen.smc(model(), key, checkpoint=written, **{**OPTIONS, **options})
    assert written.read_bytes() == before


def test_another_key_or_generator_of_the_model_is_refused(tmp_path):
    smcgen.smc(Keyed(jax.random.key(7)), 3, checkpoint=tmp_path / "run", **OPTIONS)
    for key in (jax.random.key(8), jax.random.key(7, impl="rbg")):
        with pytest.raises(CheckpointError, match="belongs to another run"):
            smcgen.smc(Keyed(key), 3, checkpoint=tmp_path / "run", **OPTIONS)


def test_a_changed_attribute_of_a_plain_object_is_refused(tmp_path):
    smcgen.smc(Walk(1.0), 3, checkpoint=tmp_path / "run", **OPTIONS)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        smcgen.smc(Walk(2.0), 3, checkpoint=tmp_path / "run", **OPTIONS)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", None], ids=["empty", "text", "cut off"]
)
def test_a_corrupt_file(content, written):
    written.write_bytes(written.read_bytes()[:-7] if content is None else content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        smcgen.smc(gaussian(), 3, checkpoint=written, **OPTIONS)


def test_a_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="the folder '.*nowhere' does not exist"):
        smcgen.smc(gaussian(), 3, 4, checkpoint=tmp_path / "nowhere" / "run")


def test_a_kill_while_writing_leaves_the_step_before(tmp_path, monkeypatch):
    """The new file replaces the old one in one move, so there is a good one at any moment."""
    from smcgen.core import storage

    path, saved = tmp_path / "run", []
    whole = smcgen.smc(gaussian(), 3, callback=lambda progress: None, **OPTIONS)

    def dies(arrays, file, metadata):
        if len(saved) == 3:
            file.write_bytes(b"half of a fi")
            raise KeyboardInterrupt
        saved.append(file)
        save(arrays, file, metadata)

    save = storage.save_file
    monkeypatch.setattr(storage, "save_file", dies)
    with pytest.raises(SMCInterrupted):
        smcgen.smc(gaussian(), 3, checkpoint=path, **OPTIONS)
    assert all(file != path for file in saved)
    monkeypatch.undo()
    seen = []
    resumed = smcgen.smc(
        gaussian(), 3, checkpoint=path, callback=lambda p: seen.append(p.t), **OPTIONS
    )
    assert seen == [3, 4]
    assert_identical(resumed, whole)
    assert [f.name for f in tmp_path.iterdir()] == ["run"]


def test_a_state_that_grows_says_what_it_needs(tmp_path):
    class Grows(Walk):
        def init(self, key, n):
            return [self.noise(key, n)], np.zeros(n)

        def step(self, key, t, state):
            return [*state, self.noise(key, 6)], np.zeros(6)

    path = tmp_path / "run"
    with pytest.raises(SMCInterrupted):
        smcgen.smc(Grows(), 3, 6, checkpoint=path, callback=stop_after(2))
    with pytest.raises(CheckpointError, match="needs fingerprint, dump and load"):
        smcgen.smc(Grows(), 3, 6, checkpoint=path)


@pytest.mark.slow
def test_another_process_goes_on(tmp_path):
    """Functions and plain objects print an address, another one in each process."""
    code = """
import sys
import jax
import smcgen

class Part:
    pass

class Model(smcgen.FeynmanKac):
    num_steps = 3
    def __init__(self):
        self.part, self.score = Part(), lambda x: -x**2
    def init(self, key, n):
        x = jax.random.normal(key, (n,))
        return x, self.score(x)
    def step(self, key, t, x):
        return x, self.score(x)

def stop(progress):
    if progress.t == 1 and sys.argv[2] == "stop":
        raise KeyboardInterrupt

padding = [object() for _ in range(len(sys.argv[2]) * 1000)]
run = smcgen.smc(Model(), 0, 4, checkpoint=sys.argv[1], callback=stop, on_error="return")
print(run.num_steps)
"""
    run = lambda word: (
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run"), word],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    assert run("stop") == "1\n"
    assert run("continue") == "3\n"
