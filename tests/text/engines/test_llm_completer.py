"""What `VLLMRequests` makes of an LLM that dies, is interrupted or talks nonsense; real ones in `test_remote_vllm`."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.errors import EngineError, InvalidArgument
from smcgen.text.engines import Law
from smcgen.text.engines._llm import VLLMRequests
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from tests.text import tiny
from tests.text.engines.served import LocalEngine, toy, write
from tests.text.vllm_tiny import needs_vllm

# slow: importing vLLM takes longer than everything else
pytestmark = [needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
A = Prompt((0,), "a")


class FakeLLM:
    """`vllm.LLM.generate` on the toy law; `faults` come first."""

    def __init__(self, mode="processed_logprobs", faults=()):
        config = SimpleNamespace(max_model_len=65, model="toy", logprobs_mode=mode)
        self.aborted, self.stopped = [], 0
        self.llm_engine = SimpleNamespace(
            model_config=config,
            output_processor=SimpleNamespace(request_states={"0-x": None}),
            abort_request=lambda ids, internal: self.aborted.extend(ids),
            engine_core=SimpleNamespace(shutdown=self._shutdown),
        )
        self.faults = list(faults)

    def _shutdown(self):
        self.stopped += 1

    def get_tokenizer(self):
        return tiny.tokenizer()

    def generate(self, prompts, params, use_tqdm):
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            raise fault
        out = []
        for prompt, p in zip(prompts, params, strict=True):
            law = Sampling(p.temperature, p.top_k or None, p.top_p)
            ids, rng = prompt["prompt_token_ids"], np.random.default_rng(p.seed)
            tokens, logs, finish = write(toy(1), law, ids, p.max_tokens, set(p.stop_token_ids), rng)
            rows = [{t: SimpleNamespace(logprob=x)} for t, x in zip(tokens, logs, strict=True)]
            output = SimpleNamespace(token_ids=tokens, logprobs=rows, finish_reason=finish)
            answer = SimpleNamespace(outputs=[output], prompt_token_ids=ids, num_cached_tokens=0)
            out.append(answer)
        return fault(out) if fault else out


def extend(engine, meter=None, law=Law()):
    session = engine.open([A], 4, law, meter or Meter())
    random = StepRandomness(jax.random.key(0).reshape(1), 4)
    return session.extend(np.arange(4), Step(tokens=3), np.full(4, 9), random)


def dead():
    from vllm.v1.engine.exceptions import EngineDeadError

    return EngineDeadError()


def test_it_writes_what_its_completions_say():
    meter = Meter()
    got = extend(VLLMRequests(FakeLLM()), meter)
    assert got.tokens.tolist() == extend(LocalEngine(toy(1))).tokens.tolist()
    np.testing.assert_allclose(got.log_base, extend(LocalEngine(toy(1))).log_base)
    assert meter.read().tokens_prefilled == 4  # as reported


def test_a_dead_engine_is_made_again_and_asked_the_same():
    llms = [FakeLLM(faults=[dead()]), FakeLLM()]
    engine = VLLMRequests(iter(llms).__next__)
    assert extend(engine).tokens.tolist() == extend(VLLMRequests(FakeLLM())).tokens.tolist()
    assert llms[0].stopped == 1
    with pytest.raises(EngineError, match="died after 1 restarts"):
        extend(VLLMRequests(lambda: FakeLLM(faults=[dead(), dead()])))
    with pytest.raises(EngineError, match="died.*pass a function"):
        extend(VLLMRequests(FakeLLM(faults=[dead()])))


@pytest.mark.parametrize("fault", [RuntimeError("no memory"), KeyboardInterrupt()])
def test_what_cannot_be_started_again_is_tried_again_when_it_is_next_asked(fault):
    made = iter([FakeLLM(faults=[dead()]), fault, FakeLLM()])

    def make():
        one = next(made)
        if isinstance(one, BaseException):
            raise one
        return one

    engine = VLLMRequests(make)
    known = isinstance(fault, RuntimeError)
    with pytest.raises(EngineError if known else KeyboardInterrupt, match="no memory" * known):
        extend(engine)
    assert extend(engine).tokens.tolist() == extend(VLLMRequests(FakeLLM())).tokens.tolist()


def test_an_interrupt_leaves_nothing_to_write():
    llm = FakeLLM(faults=[KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        extend(VLLMRequests(llm))
    assert llm.aborted == ["0-x"]


def test_nonsense_and_laws_that_cannot_be_weighted():
    with pytest.raises(EngineError, match="3 outputs for 4"):
        extend(VLLMRequests(FakeLLM(faults=[lambda out: out[1:]])))
    with pytest.raises(InvalidArgument, match="processed_logprobs"):
        extend(VLLMRequests(FakeLLM("raw_logprobs")), law=Law(Sampling(0.5)))
    with pytest.raises(InvalidArgument, match="logprobs_mode"):
        VLLMRequests(FakeLLM("raw_logits"))
    for name, value in {"max_length": 65, "restarts": -1}.items():
        with pytest.raises(InvalidArgument, match=name):
            VLLMRequests(FakeLLM(), **{name: value})
    with pytest.raises(InvalidArgument, match="llm"):
        VLLMRequests("model")
