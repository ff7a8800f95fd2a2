"""What is computed by kernels: the selective scan, the spiral scan and dense products, each with a plain reference."""
