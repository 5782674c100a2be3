"""Which models a server has."""

from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.text._http import Client, ServerError


def served(client: Client, model: str | None) -> dict[str, Any]:
    """What a server says of a model: "id", and with vLLM "root" and "max_model_len".

    Raises:
        InvalidArgument: it does not have it, or has several and none is named.
        ServerError: it does not say.
    """
    answer = client.get("/v1/models")
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list) or not all(isinstance(c, dict) and "id" in c for c in cards):
        raise ServerError(
            f"{client.url}/v1/models does not list models: is it an OpenAI-compatible server?"
        )
    if model is None and len(cards) == 1:
        return cards[0]
    found = [card for card in cards if card["id"] == model]
    if not found:
        names = ", ".join(repr(card["id"]) for card in cards)
        raise InvalidArgument("model", model, f"one that {client.url} serves: {names}")
    return found[0]
