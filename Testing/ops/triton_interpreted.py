"""Run as a program with TRITON_INTERPRET=1: prints relative errors of both scans' Triton kernels on a CPU as JSON.

It stands in a process of its own because Triton decides at its import whether it interprets.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from DiffMaCore.ops.scan import available_backends, choose_backend, selective_scan
from Testing.ops import spiral_interpreted
from Testing.ops.problems import make_problem, solve, worst_error

# batch, channels, tokens, states, B, C, groups, options
SHAPES = {
    "tokens": (2, 5, 5, 1, "tokens", "tokens", 1, True),
    "groups": (1, 6, 7, 2, "groups", "groups", 2, True),
    "constant B": (1, 5, 5, 2, "constant", "groups", 5, True),
    "constant C": (1, 6, 3, 1, "tokens", "constant", 1, True),
    "no options": (1, 4, 6, 2, "tokens", "tokens", 1, False),
}


def main() -> None:
    errors = {name: worst_error(make_problem(*shape), "triton", shape[-1]) for name, shape in SHAPES.items()}

    problem: dict[str, Any] = make_problem(1, 4, 6, 2)
    exact = solve(problem, None, True)["out"]
    narrow = ("u", "delta", "B", "C", "z")
    half: dict[str, Any] = {name: t.bfloat16() if name in narrow else t for name, t in problem.items()}
    out, last = selective_scan(**half, delta_softplus=True, return_last_state=True, backend="triton")
    errors["half"] = float((out.float() - exact).abs().max() / exact.abs().max())

    steps = torch.linspace(-80, 80, 33).view(1, 33, 1)
    one, B = torch.ones_like(steps), torch.ones(1, 1, 1)
    softened = selective_scan(one, steps, -one[0], B, B, delta_softplus=True, backend="triton")
    softplus = torch.nn.functional.softplus(steps.double(), threshold=100)
    errors["softplus"] = float(((softened - softplus) / softplus).abs().max())

    problem["u"][0, 3, 2] = float("nan")
    damaged = selective_scan(**problem, delta_softplus=True, backend="triton")
    print(
        json.dumps(
            {
                "errors": errors,
                "reason": available_backends("cpu")["triton"],
                "auto": choose_backend("auto", "cpu"),
                "types": [str(out.dtype), str(last.dtype)],
                "damaged": damaged.isnan().nonzero().tolist(),
                "spiral": spiral_interpreted.report(),
            }
        )
    )


if __name__ == "__main__":
    main()
