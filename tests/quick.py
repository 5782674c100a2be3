"""Programs that run once: XLA takes three times as long to optimise them as to compile them plainly."""

import jax

_PLAIN = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def quick(function, *arguments):
    """`jax.jit(function)(*arguments)`, compiled without optimisation."""
    return jax.jit(function).lower(*arguments).compile(compiler_options=_PLAIN)(*arguments)
