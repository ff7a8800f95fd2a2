"""Every control of the panel, saved with the scene."""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, Minimum, WithinRange, parameterNodeWrapper

DEFAULT_STEPS = 15  # DiffMaCore's own


@parameterNodeWrapper
class DiffMaParameterNode:
    """The state of the panel; each field is bound to the control of the same ``SlicerParameterName``.

    What decides which program is executed (the interpreter, the models' folder) is not in here but in
    ``settings``: a scene from somewhere else must not choose it.
    """

    # input and output
    inputVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    uncertaintyVolume: vtkMRMLScalarVolumeNode
    softMaskVolume: vtkMRMLScalarVolumeNode
    trueVolume: vtkMRMLScalarVolumeNode
    differenceVolume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    maskSegmentation: vtkMRMLSegmentationNode
    limitSlices: bool = False
    firstSlice: Annotated[int, Minimum(0)] = 0
    lastSlice: Annotated[int, Minimum(-1)] = -1  # included; -1 is the last one there is

    # model: anatomy and size are the two filters that lead to it
    anatomy: str = ""
    modelSize: str = ""
    model: str = "demo"

    # sampling
    mode: Annotated[str, Choice(["auto", "mean", "sample"])] = "auto"  # the model's own
    steps: Annotated[int, WithinRange(1, 1000)] = DEFAULT_STEPS
    scheduler: Annotated[str, Choice(["dpm++", "unipc", "ddim", "ddpm"])] = "dpm++"
    seed: Annotated[int, WithinRange(0, 2147483647)] = 0
    samples: Annotated[int, WithinRange(1, 64)] = 1
    decoder: Annotated[str, Choice(["full", "small"])] = "full"  # full is the best that the model has
    makeSoftMask: bool = True
    keepPartial: bool = False
    device: str = "auto"

    # review
    layout: str = "side-by-side"
    layers: str = "none"
    overlayOpacity: Annotated[float, WithinRange(0, 1)] = 0.5
    checkerboardTiles: Annotated[int, WithinRange(2, 32)] = 8
    linkViews: bool = True

    # batch
    batchFromFolder: bool = True  # else of the volumes in the scene
    batchLoad: bool = False
    batchInput: str = ""
    batchOutput: str = ""
    batchFormat: Annotated[str, Choice(["nii.gz", "nrrd", "mha", "dicom"])] = "nii.gz"
