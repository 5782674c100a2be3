"""Engines by name, with their arguments as JSON."""

import importlib.util
import json
import sys
from types import SimpleNamespace

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


def test_vllm_over_several_devices_gets_its_arguments(monkeypatch):
    """The engine of this process has one device; vLLM's own processes have as many as they are told."""
    from smcgen.text.engines import _llm

    built = []
    vllm = SimpleNamespace(LLM=lambda *arguments, **options: built.append((arguments, options)))
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setattr(_llm, "VLLMRequests", lambda start, **own: (start(), own))
    options = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "max_length": 99}
    _, own = load_engine("vllm", "m", json.dumps(options))
    assert own == {"max_length": 99}
    assert built == [(("m",), {"tensor_parallel_size": 2, "pipeline_parallel_size": 2})]


def test_an_argument_that_vllm_over_several_devices_does_not_have(monkeypatch):
    def refuse(model, tensor_parallel_size, **options):
        raise TypeError("EngineArgs.__init__() got an unexpected keyword argument 'foo'")

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=refuse))
    with pytest.raises(InvalidArgument, match="engine_args='foo'.* of vllm_of_many: or those of"):
        load_engine("vllm", "m", '{"tensor_parallel_size": 2, "foo": 1}')
