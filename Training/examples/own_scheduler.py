"""Samples drawn by a scheduler of one's own: ``python Training/examples/own_scheduler.py CT MR``."""

import sys

import SimpleITK as sitk
from diffusers import HeunDiscreteScheduler

from DiffMaCore import DiffMaPipeline

pipe = DiffMaPipeline.from_pretrained("demo")
pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
sitk.WriteImage(pipe(sitk.ReadImage(sys.argv[1]), mode="sample", num_inference_steps=8).mr, sys.argv[2])
