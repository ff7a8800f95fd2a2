"""Run as a program: compiles every Triton kernel for GPUs that need not be there, and prints what came out as JSON.

It stands in a process of its own because others interpret.
"""

from __future__ import annotations

import json
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from DiffMaCore.ops.triton import scan_kernels, spiral_kernels

HALF = ["u", "delta", "y", "dy", "du", "ddelta", "x", "dv", "dx", "z", "out", "total", "dout", "dtotal", "dz"]
FULL = ["A", "B", "C", "D", "bias", "border", "carry", "dA", "dB", "dC", "dD", "dbias", "weight", "dweight"]
INDICES = ["place", "order", "position"]
# As the spiral scan of a DiffMa-L/2 in training asks for them.
CONSTANTS = {
    "N": 16, "T": 16, "E": 64, "ORDERS": 3, "WHOLE": True, "SOFTPLUS": True, "HAS_Z": False, "HAS_D": True,
    "HAS_BIAS": True, "KEEP": True, "HAS_LAST": False, "dlast": None,
    "TAPS": 4, "SPAN": 16, "LANES": 128, "SIZE": 2048,
}  # fmt: skip
WITHOUT = {"scan_forward": ("z",), "scan_backward": ("z", "dz")}


def compile_for(capability: int, name: str, kernel: Any, warps: int) -> dict[str, Any]:
    """Shuffles and barriers of the kernel's PTX, and its shared memory in bytes."""
    constants = {**CONSTANTS, **dict.fromkeys(WITHOUT.get(name, ()))}
    signature: dict[str, str] = {}
    attributes: dict[tuple[int], Any] = {}
    for index, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in (*HALF, *FULL, *INDICES):
            signature[argument] = "*bf16" if argument in HALF else "*fp32" if argument in FULL else "*i32"
            attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "i32"
    given = {argument: constants[argument] for argument in kernel.arg_names if argument in constants}
    source = ASTSource(kernel, signature, constexprs=given, attrs=attributes)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = compiled.asm["ptx"]
    return {"shuffles": ptx.count("shfl.sync"), "barriers": ptx.count("bar.sync"), "shared": compiled.metadata.shared}


def main() -> None:
    kernels = [(name, getattr(scan_kernels, name), 1) for name in ("scan_forward", "scan_backward")]
    around = ("gather", "gather_backward", "scatter_backward", "merge", "merge_backward")
    kernels += [(name, getattr(spiral_kernels, name), 4) for name in around]
    found = {
        name: compile_for(capability, name, kernel, warps) for capability in (90,) for name, kernel, warps in kernels
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
