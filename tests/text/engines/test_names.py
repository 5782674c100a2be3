"""Engines by name, with their arguments as JSON."""

import importlib.util

import pytest

from smcgen.errors import InvalidArgument, MissingExtra, UnknownName
from smcgen.shipped import shipped
from smcgen.text.engines.names import load_engine


def test_names_and_arguments():
    engine = load_engine("transformers", str(shipped("tape-policy")), '{"max_length": 99}')
    assert engine.max_length == 99
    with pytest.raises(UnknownName, match="'remote', 'transformers', 'vllm'"):
        load_engine("llama.cpp", "m")
    for options in ("{", "[1]", "3"):
        with pytest.raises(InvalidArgument, match="engine_args"):
            load_engine("transformers", "m", options)


def test_without_vllm_it_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "vllm" else found(name, *a)
    )
    with pytest.raises(MissingExtra, match=r"vllm.*smcgen\[vllm\]"):
        load_engine("vllm", "m")
