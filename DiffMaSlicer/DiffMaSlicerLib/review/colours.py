"""Colour tables of the overlays: perceptually even ones for amounts, a diverging one for signed differences.

Slicer's slice views know only "see-through" or not for a colour, so the tables of amounts leave out zero, as outside
of the body: the CT or MRI below is not dimmed there.
"""

from __future__ import annotations

import slicer
import vtk

_INFERNO = "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"
_VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"
_DIVERGING = "7cc4ff 2f86dc 1c4a7a 000000 7a2a1c d8492f ffa182"  # dark in the middle: agreement dims, errors glow

TABLES = {
    "uncertainty": ("DiffMa uncertainty", _INFERNO, 0.003),
    "softmask": ("DiffMa soft mask", _VIRIDIS, 0.003),
    "difference": ("DiffMa difference", _DIVERGING, 0.0),
}
"""Kind of overlay: name of its table, its colours from low to high, and the part at the low end that is see-through."""

_COLORS = 256


def table_node(kind: str):
    """The colour node of a kind of overlay, made when it is not in the scene (or was emptied with it).

    It is a singleton outside the saved scene: its ID is always the same, so that a scene opened again finds it.
    """
    name, colors, hidden = TABLES[kind]
    tag = name.replace(" ", "")
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is None:
        node = slicer.vtkMRMLColorTableNode()
        node.SetSingletonTag(tag)
        node.SetAttribute("Category", "DiffMaSlicer")
        node.SetSaveWithScene(False)
        node = slicer.mrmlScene.AddNode(node)
    if node.GetNumberOfColors() != _COLORS:
        _fill(node, name, colors, hidden)
    return node


def _fill(node, name: str, colors: str, hidden: float) -> None:
    was = node.StartModify()
    node.SetName(name)
    node.SetTypeToUser()
    node.SetNumberOfColors(_COLORS)
    node.SetNamesFromColors()
    function = vtk.vtkColorTransferFunction()
    stops = [tuple(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)) for text in colors.split()]
    for position, (red, green, blue) in enumerate(stops):
        function.AddRGBPoint(position / (len(stops) - 1), red, green, blue)
    for index in range(_COLORS):
        at = index / (_COLORS - 1)
        red, green, blue = function.GetColor(at)
        node.SetColor(index, red, green, blue, 0.0 if at < hidden else 1.0)
    node.SetNamesFromColors()
    node.EndModify(was)
