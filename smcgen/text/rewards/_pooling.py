"""The endpoints of a vLLM pooling server: what is sent to each, and how a score is read from its answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from smcgen.errors import InvalidArgument, RewardError
from smcgen.text._http import Client, ServerError

Sent = str | tuple[str, str] | tuple[int, ...]
ENDPOINTS = ("classify", "pooling", "score")
CLASSIFY = {"pair": "score"}  # where a classifier is asked, if not at "classify"

_NOT_OFFERED = {
    "score": "no /score is offered for this model, which wants a head of one label: instead of reads='pair' "
    "take reads='joined' or 'chat', with label= of a classifier",
    "classify": "no /classify is offered for this model: is it a classifier, served with --runner pooling? For a "
    "process reward model pass format=",
    "pooling": "no /pooling is offered for this model: serve it with --runner pooling, or take "
    "endpoint='classify' for a classifier",
}


class Read(NamedTuple):
    """Where to ask, and what to read: see `smcgen.text.rewards.remote.RemoteReward`."""

    endpoint: str
    model: str
    output: str
    label: int | None
    steps: bool


def score_all(
    client: Client, read: Read, sent: Sequence[Sent], batch_size: int
) -> tuple[Float64[np.ndarray, " m"], int]:
    """A score for each text, and how many tokens the server read for them.

    Raises:
        RewardError: an answer that does not hold one score for each text.
        ServerError: no answer, or an endpoint that is not offered.
    """
    # like lengths together, since one answer waits for its longest text
    order = sorted(range(len(sent)), key=lambda k: _size(sent[k]))
    parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    bodies = [_body(read, [sent[k] for k in part]) for part in parts]
    try:
        answers = client.post(f"/{read.endpoint}", bodies)
    except ServerError as error:
        if error.status != 404 or "Not Found" not in str(error):
            raise  # a 404 with another text is of a model's name
        raise ServerError(f"{error}: {_NOT_OFFERED[read.endpoint]}") from error
    scores, tokens = np.empty(len(sent)), 0
    for part, answer in zip(parts, answers, strict=True):
        with client.reading():
            scores[part] = [_score(read, item) for item in _items(answer, len(part))]
        usage = answer.get("usage")
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        tokens += counted if isinstance(counted, int) else sum(_size(sent[k]) for k in part)
    return scores, tokens


def _size(sent: Sent) -> int:
    """Characters or tokens."""
    return (
        len(sent)
        if isinstance(sent, str)
        else sum(len(s) if isinstance(s, str) else 1 for s in sent)
    )


def _body(read: Read, sent: list[Sent]) -> dict[str, Any]:
    # raw outputs are turned into probabilities here, so that it does not depend on the server's settings
    body: dict[str, Any] = {"model": read.model, "use_activation": False}
    if read.endpoint == "score":
        return {**body, "text_1": [s[0] for s in sent], "text_2": [s[1] for s in sent]}
    return {**body, "input": list(sent)}


def _items(answer: Any, count: int) -> list[Any]:
    """The parts of an answer, one for each text, in order."""
    found = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RewardError(f"an answer without scores came: {answer!r}")
    if sorted(str(item.get("index")) for item in found) != sorted(map(str, range(count))):
        got = [item.get("index") for item in found]
        raise RewardError(f"scores {got} came where {count} were asked for")
    return sorted(found, key=lambda item: int(item["index"]))


def _score(read: Read, item: dict[str, Any]) -> float:
    """One score from the outputs of a head."""
    outputs = item.get({"score": "score", "classify": "probs"}.get(read.endpoint, "data"))
    try:
        array = np.atleast_1d(np.asarray(outputs, dtype=np.float64))
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.ndim == 2:  # one row for each token: the step, or the text, ends at the last one
        array = array[-1] if len(array) else np.full(1, np.nan)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise RewardError(f"a score came that is not finite numbers: {outputs!r}")
    if read.steps:
        return _probability_of_good(array)
    label = read.label
    if label is None and len(array) == 1:
        label = 0
    if label is None or not 0 <= label < len(array):
        raise InvalidArgument(
            "label", read.label, f"an index below the model's {len(array)} labels"
        )
    if read.output == "logit":
        return float(array[label])
    log = _log_sigmoid(array[0]) if len(array) == 1 else _log_softmax(array)[label]
    return float(log if read.output == "log_prob" else np.exp(log))


def _probability_of_good(outputs: Float64[np.ndarray, " labels"]) -> float:
    """Of one label (sigmoid) or two (softmax, the second is "good"), as in-process models are read."""
    if len(outputs) > 2:
        raise InvalidArgument("model", f"a head with {len(outputs)} outputs", "one or two labels")
    logit = outputs[0] if len(outputs) == 1 else outputs[1] - outputs[0]
    return float(np.exp(_log_sigmoid(logit)))


def _log_sigmoid(x: float) -> float:
    return float(-np.logaddexp(0.0, -x))


def _log_softmax(x: Float64[np.ndarray, " labels"]) -> Float64[np.ndarray, " labels"]:
    return x - np.logaddexp.reduce(x)
