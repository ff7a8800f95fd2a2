"""A network that has learned several target contrasts in, a network of one of them out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class OfContrasts:
    """A diffusers model whose ``contrast``, an embedding where there are several, is added to a condition."""

    contrast: nn.Embedding | None
    contrast_bias: str
    """Name of the parameter that what is added can go into."""

    def with_contrast(self, condition: Tensor, which: Tensor | None) -> Tensor:
        """The condition (B, W) and the embedding of ``which`` contrast (B,), where there are several."""
        if self.contrast is None:
            return condition
        if which is None:
            raise ValueError("this network has learned several contrasts; pass contrast")
        return condition + self.contrast(which)

    def for_contrast(self: Any, index: int) -> Any:
        """A network of one contrast out of one of several; raises ValueError where there is no such contrast."""
        if self.contrast is None or not 0 <= index < len(self.contrast.weight):
            raise ValueError(f"there is no contrast {index} in a network of {self.config['contrasts']}")
        weights = dict(self.state_dict())
        row = weights.pop("contrast.weight")[index]
        weights[self.contrast_bias] = weights[self.contrast_bias] + row
        one = type(self).from_config({**self.config, "contrasts": 1})
        one.load_state_dict(weights)
        return one.to(row.device).train(self.training)
