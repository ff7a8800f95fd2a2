"""What is measured of this software: ``python -m benchmarks``, from the root of the sources."""
