"""A region of interest, visible segments and a slice range become one mask on the CT's grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.mrml.regions import slices_argument, write_mask
from logic_tools import as_matrix, ct, matrix_of  # noqa: F401
from test_logic_conversion import drain


def mask_of(folder, node, **regions) -> np.ndarray:
    """The written mask (z, y, x) as another reader sees it."""
    path = folder / "mask.nrrd"
    drain(write_mask(path, node, **regions))
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == node.GetImageData().GetDimensions()
    return sitk.GetArrayFromImage(image)


def centres(node) -> np.ndarray:
    """World positions (z, y, x, 3) of a volume's voxel centres, without transforms."""
    k, j, i = np.indices(node.GetImageData().GetDimensions()[::-1])
    return np.stack([i, j, k, np.ones_like(i)], -1) @ matrix_of(node).T[:, :3]


def turned_roi(centre, size, angle=0.4):
    """A markups ROI turned about the z axis; its centre, and its axes as columns."""
    import slicer

    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = centre
    roi = slicer.vtkMRMLMarkupsROINode()
    roi.SetSize(size)
    roi.SetAndObserveObjectToNodeMatrix(as_matrix(turn))
    return slicer.mrmlScene.AddNode(roi), turn


def test_a_turned_box_under_a_transform_masks_what_lies_inside(ct, tmp_path):  # noqa: F811
    import slicer

    middle = centres(ct)[6, 20, 24]
    roi, box = turned_roi(middle, (60, 40, 30))
    local = (centres(ct) - box[:3, 3]) @ box[:3, :3]
    expected = (np.abs(local) <= np.array([30, 20, 15])).all(-1)
    assert 100 < expected.sum() < expected.size
    assert np.array_equal(mask_of(tmp_path, ct, roi=roi), expected)

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = (17, -30, 5)
    transform.SetMatrixTransformToParent(as_matrix(shift))
    for node in (ct, roi):
        node.SetAndObserveTransformNodeID(transform.GetID())
    assert np.array_equal(mask_of(tmp_path, ct, roi=roi), expected), "both moved together"
    roi.SetAndObserveTransformNodeID(None)
    assert not np.array_equal(mask_of(tmp_path, ct, roi=roi), expected), "the CT alone moved"


def segmentation_of(node, *masks):
    """A segmentation with one segment for each bool array on the grid of ``node``."""
    import slicer

    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    made.CreateDefaultDisplayNodes()
    for mask in masks:
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        slicer.util.updateVolumeFromArray(labels, mask.astype(np.uint8))
        labels.SetIJKToRASMatrix(as_matrix(matrix_of(node)))
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, made)
        slicer.mrmlScene.RemoveNode(labels)
    return made


def test_visible_segments_count_and_hidden_ones_do_not(ct, tmp_path):  # noqa: F811
    one, two = np.zeros((2, 12, 40, 48), bool)
    one[2:5, 3:9, 4:20] = True
    two[7:9, 30:35, 10:40] = True
    segments = segmentation_of(ct, one, two)
    assert np.array_equal(mask_of(tmp_path, ct, segmentation=segments), one | two)
    names = segments.GetSegmentation()
    segments.GetDisplayNode().SetSegmentVisibility(names.GetNthSegmentID(0), False)
    assert np.array_equal(mask_of(tmp_path, ct, segmentation=segments), two)
    segments.GetDisplayNode().SetSegmentVisibility(names.GetNthSegmentID(1), False)
    with pytest.raises(JobError, match="shows no segment"):
        mask_of(tmp_path, ct, segmentation=segments)


def test_a_segment_that_is_only_a_surface_counts_too(ct, tmp_path):  # noqa: F811
    one = np.zeros((12, 40, 48), bool)
    one[2:8, 10:30, 10:30] = True
    segments = segmentation_of(ct, one)
    segments.CreateClosedSurfaceRepresentation()
    segments.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segments.GetSegmentation().RemoveRepresentation("Binary labelmap")
    mask = mask_of(tmp_path, ct, segmentation=segments)
    assert 2 * (mask & one).sum() / (mask.sum() + one.sum()) > 0.9


def test_box_and_segments_together_keep_what_is_in_both(ct, tmp_path):  # noqa: F811
    roi, _ = turned_roi(centres(ct)[6, 20, 24], (60, 40, 30))
    box = mask_of(tmp_path, ct, roi=roi).astype(bool)
    one = np.zeros((12, 40, 48), bool)
    one[:, :20] = True
    both = mask_of(tmp_path, ct, roi=roi, segmentation=segmentation_of(ct, one))
    assert np.array_equal(both, box & one) and both.any()


def test_a_box_beside_the_ct_is_refused_with_a_remedy(ct, tmp_path):  # noqa: F811
    roi, _ = turned_roi((9999, 0, 0), (10, 10, 10))
    with pytest.raises(JobError, match=r"no voxel.*Move it"):
        mask_of(tmp_path, ct, roi=roi)


@pytest.mark.parametrize(
    ("slices", "words"), [(None, []), ((0, -1), ["--slices", "0:12"]), ((3, 99), ["--slices", "3:12"])]
)
def test_slices_are_counted_from_nought_and_both_ends_are_included(ct, slices, words):  # noqa: F811
    assert slices_argument(ct, slices) == words


def test_slices_run_along_superior_inferior_whatever_the_orientation(ct):  # noqa: F811
    from DiffMaSlicerLib.mrml.geometry import slice_axis, slice_count

    sagittal = np.array([[0, 0, 5, 0], [-4, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1.0]])
    ct.SetIJKToRASMatrix(as_matrix(sagittal))
    assert (slice_axis(ct), slice_count(ct)) == (1, 40)
    assert slices_argument(ct, (39, -1)) == ["--slices", "39:40"]
    for nothing in ((40, -1), (5, 4), (-2, 3)):
        with pytest.raises(JobError, match=r"slices 0 to 39"):
            slices_argument(ct, nothing)
