"""Shared torch machinery: populations on one KV cache, exact draws, delimiters."""

CATCH_UP = 256  # tokens per row in one pass when earlier completions are read again
