"""The core: Feynman-Kac models, weights, resampling and the SMC body. Imports JAX alone."""
