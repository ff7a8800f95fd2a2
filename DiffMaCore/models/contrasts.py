"""A network that has learned several target contrasts in, a network of one of them out."""

from __future__ import annotations

from typing import Any


def one_contrast(network: Any, index: int, bias: str) -> Any:
    """The network of one contrast: what its embedding adds goes into a bias.

    Args:
        network: a diffusers model with ``contrast``, an embedding or None, and ``contrasts`` in its configuration.
        index: of the contrast.
        bias: name of the parameter whose output the embedding is added to.

    Raises ValueError where the network has no such contrast.
    """
    if network.contrast is None or not 0 <= index < len(network.contrast.weight):
        raise ValueError(f"there is no contrast {index} in a network of {network.config['contrasts']}")
    weights = dict(network.state_dict())
    row = weights.pop("contrast.weight")[index]
    weights[bias] = weights[bias] + row
    one = type(network).from_config({**network.config, "contrasts": 1})
    one.load_state_dict(weights)
    return one.to(row.device).train(network.training)
