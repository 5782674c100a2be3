"""How XLA is to compile the programs of the tests: quickly, not well (docs/decisions.md)."""

from importlib.metadata import version

OPTIONS: dict[str, int | bool] = {"xla_cpu_parallel_codegen_split_count": 1}
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones have no older emitters
    OPTIONS["xla_cpu_use_fusion_emitters"] = False


def flags() -> list[str]:
    """The options as words of `XLA_FLAGS`, which XLA reads when JAX is imported."""
    return [f"--{name}={str(value).lower()}" for name, value in OPTIONS.items()]
