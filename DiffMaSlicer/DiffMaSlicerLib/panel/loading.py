"""Ways to get a CT into the scene."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.mrml.facts import describe


def loadFile(parent):
    """Ask for a file and load it; returns the volume node, or None if the user changed their mind.

    Raises:
        RuntimeError: the file cannot be read as a volume.
    """
    filters = _("Volumes") + " (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd *.hdr *.img *.dcm);;" + _("All files") + " (*)"
    path = qt.QFileDialog.getOpenFileName(parent, _("Load a CT"), "", filters)
    return slicer.util.loadVolume(path) if path else None


def loadDicomFolder(parent):
    """Ask for a folder, add its DICOM files to Slicer's database, and load the largest CT series in it.

    Raises:
        RuntimeError: there is no DICOM series that Slicer can read.
    """
    folder = qt.QFileDialog.getExistingDirectory(parent, _("Folder with a DICOM series"))
    if not folder:
        return None
    from DICOMLib import DICOMUtils

    if not DICOMUtils.importDicom(folder):
        raise RuntimeError(_("Slicer cannot read the DICOM files of this folder. Try the DICOM module."))
    series = DICOMUtils.seriesUIDsForFiles([str(path) for path in sorted(Path(folder).rglob("*")) if path.is_file()])
    if not series:
        raise RuntimeError(_("No DICOM series was found in this folder. Choose the folder that holds the slices."))
    loaded = DICOMUtils.loadSeriesByUID(list(series))
    nodes = [slicer.mrmlScene.GetNodeByID(nodeID) for nodeID in loaded]
    volumes = [node for node in nodes if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]
    if not volumes:
        raise RuntimeError(_("Nothing in this folder loads as a volume. Try the DICOM module, which lists the series."))
    return max(volumes, key=_slices)


def openDicomModule():
    """Switch to Slicer's DICOM module."""
    slicer.util.selectModule("DICOM")


def likelyInput():
    """The volume that a user most likely wants converted: one that looks like a CT before one that does not, and the
    one on view before the others; never a synthetic one."""
    selection = slicer.app.applicationLogic().GetSelectionNode()
    shown = slicer.mrmlScene.GetNodeByID(selection.GetActiveVolumeID() or "") if selection else None
    nodes = [shown, *slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    nodes = [node for node in nodes if node is not None and _convertible(node)]
    return next((node for node in nodes if not describe(node).problem), nodes[0] if nodes else None)


def _convertible(node):
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode") or node.GetHideFromEditors():
        return False
    return node.GetImageData() is not None and not any("DiffMa." in name for name in node.GetAttributeNames())


def _slices(node):
    return node.GetImageData().GetDimensions()[2] if node.GetImageData() else 0
