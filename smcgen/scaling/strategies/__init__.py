"""The strategies, one idea a file; `smcgen.scaling` has them all by name."""
