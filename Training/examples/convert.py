"""A CT to a synthetic T1 with its uncertainty: ``python Training/examples/convert.py CT MR``."""

import sys

import SimpleITK as sitk

from DiffMaCore import DiffMaPipeline

out = DiffMaPipeline.from_pretrained("demo")(sitk.ReadImage(sys.argv[1]), samples=2)
assert out.uncertainty is not None  # two samples were asked for
sitk.WriteImage(out.mr, sys.argv[2])
print(out.metadata["notice"])
print(f"largest deviation: {sitk.GetArrayViewFromImage(out.uncertainty).max():.0f} of {out.metadata['output_units']}")
