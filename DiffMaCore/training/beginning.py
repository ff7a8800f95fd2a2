"""A bundle's network in, a training that goes on from its weights out: fine-tuning on own data."""

from __future__ import annotations

from typing import Any

import torch

from DiffMaCore.bundles import manifest, store
from DiffMaCore.configuring import first_change
from DiffMaCore.diffusion.loading import load_components
from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.models.contrasts import OfContrasts


def begin_from(network: Any, bundle: str, part: str) -> None:
    """Give ``network``, a model of diffusers', the weights of the same network in a bundle.

    ``bundle`` is an installed bundle's name or a folder, ``part`` a component, which is also the configuration's
    section. Where several contrasts are learned, each begins as the one of the bundle. Raises InputError, naming the
    key, where there is no such bundle, it is damaged or has no such network, or the network is of another size.
    """
    key = f"{part}.begin_from: {bundle}"
    try:
        folder = store.resolve(bundle)
        manifest.verify(folder)
        found = load_components(folder, only=part).get(part)
    except DiffMaError as problem:
        raise InputError(f"{key} cannot be gone on from: {problem}") from None
    if found is None or type(found) is not type(network):
        raise InputError(f"{key} has no {type(network).__name__} to go on from; leave the key out, or name another")
    other = first_change(_sizes(found), _sizes(network), part)
    if other:
        name, theirs, ours = other
        raise InputError(f"{key} has {name} {theirs}, and the experiment {ours}; make both the same, or leave it out")
    weights = found.state_dict()
    if isinstance(network, OfContrasts) and network.contrast is not None:
        weights["contrast.weight"] = torch.zeros_like(network.contrast.weight)
    network.load_state_dict(weights)


def _sizes(network: Any) -> dict[str, Any]:
    """What decides the shapes of a network's weights, but for the number of contrasts."""
    return {name: value for name, value in network.config.items() if name != "contrasts" and not name.startswith("_")}
