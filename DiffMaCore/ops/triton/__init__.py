"""The selective scan and the spiral scan by Triton kernels, for NVIDIA GPUs."""
