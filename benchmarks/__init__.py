"""``python -m benchmarks``, from the root of the sources: this software in, its speeds, memory and errors out."""
