"""Places in the subject hierarchy: what is made from a CT belongs into the CT's study."""

from __future__ import annotations

from typing import Any

import slicer


def place_beside(node: Any, ct: Any) -> None:
    """Put ``node`` under the same parent (the study) as ``ct``; without a hierarchy nothing happens."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(ct.GetScene())
    if hierarchy is None:
        return
    parent = _item(hierarchy, ct, hierarchy.GetSceneItemID())
    hierarchy.SetItemParent(_item(hierarchy, node, hierarchy.GetSceneItemID()), hierarchy.GetItemParent(parent))


def _item(hierarchy: Any, node: Any, parent: int) -> int:
    """The item of ``node``; made where the application has not made one itself."""
    item = hierarchy.GetItemByDataNode(node)
    return item if item != slicer.vtkMRMLSubjectHierarchyNode.GetInvalidItemID() else hierarchy.CreateItem(parent, node)
