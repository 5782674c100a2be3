"""Shared torch machinery: populations on one KV cache, exact draws, delimiters."""
