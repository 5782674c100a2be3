"""Masked diffusion over three letters and four positions, small enough to enumerate: 256 states, 81 outputs.

The network is a random table of logits, one for each state. Everything exact here is computed in NumPy from the
equations, with nothing of the library.
"""

import itertools

import jax.numpy as jnp
import numpy as np

V, L, T, MASK = 3, 4, 4, 3
STATES = np.array(list(itertools.product(range(V + 1), repeat=L)))
PLACE = (V + 1) ** np.arange(L)[::-1]
OUTPUTS = np.flatnonzero((STATES != MASK).all(1))
START = len(STATES) - 1
RNG = np.random.default_rng(0)
LOGITS = (1.3 * RNG.normal(size=(len(STATES), L, V + 1))).astype(np.float32)
REWARD = RNG.normal(size=len(STATES)).astype(np.float32)  # of any state, used of outputs alone
PHI = RNG.random(len(STATES))


def denoiser(x, time):
    """The table, in JAX."""
    return jnp.asarray(LOGITS)[x @ jnp.asarray(PLACE)]


def reward(x):
    """The reward of states, in JAX."""
    return jnp.asarray(REWARD)[x @ jnp.asarray(PLACE)]


def code(x):
    """States by their number."""
    return np.asarray(x) @ PLACE


def token_law(temperature=1.0):
    """(states, L, V)."""
    scaled = LOGITS[..., :V].astype(np.float64) / temperature
    e = np.exp(scaled - scaled.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def subsets(state):
    """Sets of masked positions of a state, as tuples."""
    masked = np.flatnonzero(STATES[state] == MASK)
    return [s for k in range(len(masked) + 1) for s in itertools.combinations(masked, k)]


def matrix(subset_law, law=None):
    """P(new | state) of a step: `subset_law(state) -> {subset: probability}`, then tokens from `law`."""
    law = token_law() if law is None else law
    out = np.zeros((len(STATES), len(STATES)))
    for state in range(len(STATES)):
        for subset, p in subset_law(state).items():
            for tokens in itertools.product(range(V), repeat=len(subset)):
                new = STATES[state].copy()
                new[list(subset)] = tokens
                q = np.prod([law[state, l, v] for l, v in zip(subset, tokens, strict=True)])
                out[state, new @ PLACE] += p * q
    return out


def independent(rates):
    """Each masked position with its own probability; `rates[state, l]`."""

    def of(state):
        masked = np.flatnonzero(STATES[state] == MASK)
        r = rates[state]
        return {s: np.prod([r[l] if l in s else 1 - r[l] for l in masked]) for s in subsets(state)}

    return of


def counted(k, weights):
    """k masked positions, a subset in proportion to the product of its weights."""

    def of(state):
        many = [s for s in subsets(state) if len(s) == min(k, sum(STATES[state] == MASK))]
        w = np.array([np.prod(weights[state, list(s)]) for s in many])
        return dict(zip(many, w / w.sum(), strict=True))

    return of


def exact(steps, strength=1.0):
    """Z, E_pi[PHI] and the law pi of the outputs, of a product of step matrices."""
    p = np.eye(len(STATES))[START]
    for step in steps:
        p = p @ step
    w = np.where(p > 0, p * np.exp(strength * REWARD.astype(np.float64)), 0)
    return w.sum(), (w @ PHI) / w.sum(), w / w.sum()


def mdlm_steps(steps=T, law=None):
    """MDLM's steps with the linear schedule."""
    share = 1 - np.arange(steps + 1) / steps
    rates = [1 - b / a for a, b in itertools.pairwise(share)]
    return [matrix(independent(np.full((len(STATES), L), r)), law) for r in rates]
