"""Particle Gibbs on a language model: a Markov chain of texts, from the law that `smcgen.steer` samples.

Each sweep is a particle filter of four texts, one of which repeats the latest text of the chain; with ancestor sampling
its later lines may follow another beginning. Any number of particles from two on leaves the target as it is.

python examples/particle_gibbs_text.py
"""

from collections import Counter

import smcgen
from smcgen.shipped import shipped
from smcgen.text import ProcessReward, TextModel, Transformers

engine = Transformers(shipped("tape-policy"))
reward = ProcessReward(shipped("tape-prm-good"))
model = TextModel(engine, "Q:47+86*3-19\n", reward, max_tokens=64)
chains = smcgen.particle_gibbs(model, key=0, n_samples=6, n_particles=4, n_warmup=1)
print(chains)
for text, times in Counter(chains.map(model.text).ravel().tolist()).most_common(3):
    print(f"{times} of {chains.n_samples} draws: {text!r}")
