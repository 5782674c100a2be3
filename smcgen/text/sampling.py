"""The law that tokens are drawn from."""

from dataclasses import dataclass

from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Sampling:
    """Temperature, then top-k, then top-p, applied to a model's next-token logits.

    The law is `softmax(logits / temperature)` restricted to the `top_k` most likely tokens, then to
    the smallest set of most likely tokens whose mass reaches `top_p`, and renormalised.
    `temperature=0` is greedy: all mass on the most likely token.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise InvalidArgument("temperature", self.temperature, "a number >= 0")
        if self.top_k is not None and self.top_k < 1:
            raise InvalidArgument("top_k", self.top_k, "None or an integer >= 1")
        if not 0 < self.top_p <= 1:
            raise InvalidArgument("top_p", self.top_p, "a number in (0, 1]")

    @property
    def truncates(self) -> bool:
        """Whether the law gives probability zero to tokens that the model allows."""
        return self.temperature == 0 or self.top_k is not None or self.top_p < 1
