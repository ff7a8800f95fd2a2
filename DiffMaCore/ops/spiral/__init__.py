"""The spiral scan and DiffMa's block as kernels for CPUs (Numba) and GPUs (Triton)."""
