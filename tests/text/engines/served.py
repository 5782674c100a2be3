"""Laws that are asked for completions: in this process, or behind an HTTP server that speaks like vLLM's."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from smcgen.text.engines._completer import Completion, Request
from smcgen.text.engines._request_engine import RequestEngine
from smcgen.text.sampling import Sampling
from tests.text import tiny
from tests.text.toy import EOS, ToyEngine, warp

Logits = Callable[[Sequence[int]], np.ndarray]


def toy(seed: int) -> Logits:
    """The enumerable law of `ToyEngine(seed)`, after a prompt of one token."""
    table = ToyEngine(seed).logits

    def logits(ids: Sequence[int]) -> np.ndarray:
        node = 0
        for v in ids[1:]:
            node = node * EOS + v + 1
        return table[node % len(table)]

    return logits


def llama() -> Logits:
    """The law of the tiny transformers model."""
    import torch

    model = tiny.llama()

    def logits(ids: Sequence[int]) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.tensor([list(ids)])).logits[0, -1].double().numpy()

    return logits


def law_of(logits: np.ndarray, sampling: Sampling, allowed: Sequence[int] | None = None):
    """Log-probabilities of the next token."""
    if allowed is not None:
        logits = np.where(np.isin(np.arange(len(logits)), allowed), logits, -np.inf)
    if sampling.temperature == 0:
        return np.where(np.arange(len(logits)) == logits.argmax(), 0.0, -np.inf)
    return warp(logits[None], sampling)[0]


def write(logits, sampling, ids, most, stops, rng, raw=False, allowed=None):
    """Tokens, log-probabilities and finish of one completion."""
    tokens, logs = [], []
    for _ in range(most):
        row = logits([*ids, *tokens])
        law = law_of(row, sampling, allowed)
        cdf = np.exp(law).cumsum()
        token = int(np.searchsorted(cdf, rng.random() * cdf[-1], side="right"))
        logs.append(float(law_of(row, Sampling())[token] if raw else law[token]))
        tokens.append(token)
        if token in stops:
            return tokens, logs, "stop"
    return tokens, logs, "length"


class LocalCompleter:
    """A `Completer` on a law; it keeps what it was asked for, and `spoil` may change what it answers."""

    def __init__(self, logits: Logits, sampling: Sampling = Sampling()):
        self.sampling, self.logits = sampling, logits
        self.asked: list[list[Request]] = []
        self.spoil: Callable[[Completion], Completion] = lambda completion: completion

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked.append(list(requests))
        out = []
        for ids, most, stops, seed in requests:
            rng = np.random.default_rng(seed)
            written = write(self.logits, self.sampling, ids, most, set(stops), rng)
            out.append(self.spoil(Completion(*written)))
        return out

    def score(self, texts: Sequence[tuple[int, ...]], starts: Sequence[int]) -> list[np.ndarray]:
        plain = lambda ids: law_of(self.logits(ids), Sampling())
        return [
            np.array([plain(ids[:k])[ids[k]] for k in range(start, len(ids))])
            for ids, start in zip(texts, starts, strict=True)
        ]


class LocalEngine(RequestEngine):
    """An engine on a law in this process."""

    def __init__(self, logits: Logits, processed: bool = True, max_length: int = 64):
        self.logits, self.processed = logits, processed
        self.tokenizer, self.max_length = tiny.tokenizer(), max_length
        self.eos_ids, self.name, self.vocab_size = frozenset({EOS}), "local", EOS + 1
        self.completers: list[LocalCompleter] = []
        self.spoil: Callable[[Completion], Completion] | None = None

    def _processed(self) -> bool:
        return self.processed

    def _completer(self, sampling: Sampling) -> LocalCompleter:
        self.completers.append(LocalCompleter(self.logits, sampling))
        if self.spoil is not None:
            self.completers[-1].spoil = self.spoil
        return self.completers[-1]


class Server:
    """What a local HTTP server does, and what it was asked.

    Attributes:
        faults: answers given first, one for each POST: (status, body, headers), or a function that is called and may
            return one; None for an honest answer.
        spoil: changes an honest answer.
        asked: bodies of the POSTs; `keys`: all Authorization headers; `most`: requests at work at a time.
    """

    def __init__(self, logits: Logits, raw: bool = False, max_model_len: int = 65):
        self.logits, self.raw, self.max_model_len = logits, raw, max_model_len
        self.tokenizer: Any = tiny.tokenizer()
        self.faults: list[Any] = []
        self.spoil: Callable[[Any], Any] = lambda answer: answer
        self.asked: list[Any] = []
        self.keys: list[str | None] = []
        self.now = self.most = 0
        self.models = ["toy"]
        self.cached: int | None = None
        self.lock = threading.Lock()
        self.rng = np.random.default_rng(0)
        self.url = ""

    def get(self) -> Any:
        return {"data": [{"id": name, "max_model_len": self.max_model_len} for name in self.models]}

    def post(self, path: str, body: Any) -> Any:
        assert path == "/v1/completions"
        prompts = body["prompt"]
        if isinstance(prompts, str):
            prompts = [self.tokenizer(prompts)["input_ids"]]
        sampling = Sampling(body["temperature"], body["top_k"] or None, body["top_p"])
        assert 0 <= sampling.temperature <= 2
        assert sampling.temperature > 0 or body.get("n", 1) == 1  # as vLLM
        stops = set(body.get("stop_token_ids", ())) | {EOS}
        choices = []
        for prompt in prompts:
            for child in range(body.get("n", 1)):
                seed = body.get("seed")
                rng = self.rng if seed is None else np.random.default_rng(seed + child)
                allowed = body.get("allowed_token_ids")
                args = (prompt, body["max_tokens"], stops, rng, self.raw, allowed)
                tokens, logs, finish = write(self.logits, sampling, *args)
                choice = {"index": len(choices), "text": "", "finish_reason": finish}
                choice |= {"token_ids": tokens, "prompt_token_ids": prompt}
                choice["logprobs"] = {"token_logprobs": logs}
                if body.get("prompt_logprobs") is not None:
                    scores = LocalCompleter(self.logits).score([tuple(prompt)], [1])[0]
                    rows = [
                        {str(t): {"logprob": s}} for t, s in zip(prompt[1:], scores, strict=True)
                    ]
                    choice["prompt_logprobs"] = [None, *rows]
                choices.append(choice)
        usage: dict[str, Any] = {"prompt_tokens": sum(map(len, prompts))}
        if self.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
        return self.spoil({"choices": choices, "usage": usage})


def _handler(server: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one packet

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            server.keys.append(self.headers["Authorization"])
            self._send(200, json.dumps(server.get()).encode(), {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.asked.append(body)
                server.keys.append(self.headers["Authorization"])
                server.now += 1
                server.most = max(server.most, server.now)
                fault = server.faults.pop(0) if server.faults else None
            try:
                answer = fault() if callable(fault) else fault
                if answer is None:
                    answer = 200, json.dumps(server.post(self.path, body)).encode(), {}
            finally:
                with server.lock:
                    server.now -= 1
            self._send(*answer)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # nobody waits for it any more
                self.close_connection = True

    return Handler


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """The server, at `server.url`."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    http = Quiet(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
