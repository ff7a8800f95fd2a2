"""DiffMaSlicer: a synthetic MRI from a CT, in 3D Slicer. The work is done in DiffMaSlicerLib."""

import sys

import slicer

if "DiffMaSlicerLib" in sys.modules:  # Reload takes this file anew: let the old panel go, and take its library anew
    _old = getattr(slicer.modules, "DiffMaSlicerWidget", None)
    if _old is not None:
        _old.cleanup()
    for _name in [name for name in sys.modules if name.split(".")[0] == "DiffMaSlicerLib"]:
        del sys.modules[_name]

from DiffMaSlicerLib.logic import DiffMaSlicerLogic
from DiffMaSlicerLib.panel.widget import DiffMaSlicerWidget
from DiffMaSlicerLib.review.review import prepare as prepareReview
from DiffMaSlicerLib.sample_data import registerSampleData
from DiffMaSlicerLib.selftest import DiffMaSlicerTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

__all__ = ["DiffMaSlicer", "DiffMaSlicerLogic", "DiffMaSlicerTest", "DiffMaSlicerWidget"]


class DiffMaSlicer(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("DiffMaSlicer")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        parent.dependencies = []
        parent.contributors = ["The DiffMaSlicer team"]
        parent.helpText = _(
            "Makes a synthetic MRI from a CT, in the CT's own geometry, and shows the two side by side. "
            "Research only, not for diagnosis. The bundled DEMO models were trained on rendered heads, on no patient's "
            "scan."
        )
        parent.acknowledgementText = _(
            "DiffMa is the latent diffusion model with a Mamba backbone of Wang et al. 2024 (arXiv 2406.15910)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", prepareReview)
