"""The items that Slicer's subject hierarchy makes for nodes that are added to the scene."""

from typing import Any

import slicer
from vtkmodules.util.misc import calldata_type
from vtkmodules.util.vtkConstants import VTK_OBJECT

SHOWN = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLModelNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
)


class SubjectHierarchy:
    """Keeps an item for each data node; items of loaded scenes are left as they are."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self.node()
        events = slicer.vtkMRMLScene
        self._tags = [
            scene.AddObserver(events.NodeAddedEvent, self._on_node(self._added)),
            scene.AddObserver(events.NodeRemovedEvent, self._on_node(self._removed)),
            scene.AddObserver(events.EndImportEvent, lambda caller, event: self._add_missing()),
            scene.AddObserver(events.EndCloseEvent, lambda caller, event: self.node()),
        ]

    def node(self) -> Any:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)

    @staticmethod
    def _on_node(action: Any) -> Any:
        @calldata_type(VTK_OBJECT)
        def call(caller: Any, event: str, node: Any) -> None:
            action(node)

        return call

    def _added(self, node: Any) -> None:
        if self._scene.IsImporting() or self._scene.IsClosing() or node.GetHideFromEditors():
            return
        if any(node.IsA(kind) for kind in SHOWN) and not self.node().GetItemByDataNode(node):
            self.node().CreateItem(self.node().GetSceneItemID(), node)

    def _removed(self, node: Any) -> None:
        if self._scene.IsClosing():
            return
        item = self.node().GetItemByDataNode(node)
        if item:
            self.node().RemoveItem(item, False, False)

    def _add_missing(self) -> None:
        for index in range(self._scene.GetNumberOfNodes()):
            self._added(self._scene.GetNthNode(index))

    def end(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
