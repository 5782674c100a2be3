"""Two unlike classifiers of small images: one to steer by, another to judge what came out."""

from jaxtyping import Float
from torch import Tensor, nn

from smcgen.diffusion.nets._pretrained import Pretrained


class MLPClassifier(Pretrained):
    """Logits of the class of a vector, by two hidden layers."""

    def __init__(self, dim: int = 64, hidden: int = 128, classes: int = 10):
        super().__init__()
        self.config = {"dim": dim, "hidden": hidden, "classes": classes}
        self.layers = nn.Sequential(
            *(nn.Linear(dim, hidden), nn.SiLU()),
            *(nn.Linear(hidden, hidden), nn.SiLU()),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n classes"]:
        """Logits; `log_softmax` of them are log-probabilities in nats."""
        return self.layers(x)


class ConvClassifier(Pretrained):
    """Logits of the class of a square image given as a vector, by three convolutions.

    Args:
        side: pixels a side, a multiple of 4; the vector has `side * side` numbers.
        channels: of the first convolution; the others have twice as many.
        classes: how many.
    """

    def __init__(self, side: int = 8, channels: int = 32, classes: int = 10):
        super().__init__()
        self.config = {"side": side, "channels": channels, "classes": classes}
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            *(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(wide * (side // 4) ** 2, wide), nn.ReLU()),
            *(nn.Dropout(0.3), nn.Linear(wide, classes)),
        )

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n classes"]:
        """Logits; `log_softmax` of them are log-probabilities in nats."""
        return self.layers(x)
