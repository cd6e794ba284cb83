r"""LeNet-5, a small convolutional classifier (LeCun et al. 1998), with ReLU and max pooling.

.. math::
    28^2 \xrightarrow{5\times5} 6\cdot28^2 \xrightarrow{\max} 6\cdot14^2 \xrightarrow{5\times5} 16\cdot10^2
    \xrightarrow{\max} 16\cdot5^2 \to 120 \to \underbrace{84}_{\text{features}} \to \text{classes}

The layer before the last is the feature space in which generated digits are compared with real ones: it was
trained to tell digits apart, unlike the Inception network, which has never seen one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["LeNet"]


class LeNet(nn.Module):
    """A network of 28×28 grey images, -1 black and 1 white.

    Args:
        classes: how many there are to tell apart.
    """

    num_features = 84
    """Width of the feature space; the name is torchmetrics'."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.description: dict[str, Any] = {"kind": "lenet", "classes": classes}
        self.to_features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, self.num_features),
            nn.ReLU(),
        )
        self.output = nn.Linear(self.num_features, classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, (1, 28, 28)."""
        return (1, 28, 28)

    def features(self, x: Tensor) -> Tensor:
        """(B, 84) features, none negative, from images (B, 1, 28, 28)."""
        return self.to_features(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, classes) logits from images (B, 1, 28, 28)."""
        return self.output(self.features(x))
