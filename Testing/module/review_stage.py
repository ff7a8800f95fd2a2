"""The stage of the review's tests: a small head in all its images, and pictures of the real slice views."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.slicer_host.pictures import picture_of

SHAPE = (20, 96, 96)  # z, y, x
SPACING = (2.0, 2.2, 6.0)  # x, y, z in mm
SIZE = (240, 200)  # of the pictures: width, height


@pytest.fixture
def stage(slicer_host):
    """An empty scene with a review that shows nothing yet; everything is taken away afterwards."""
    import slicer

    slicer.mrmlScene.Clear(0)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    made = Stage()
    yield made
    made.review.close()
    slicer.mrmlScene.Clear(0)


@pytest.fixture
def shown(stage):
    """The stage with the whole head on it, side by side."""
    stage.show()
    return stage


class Stage:
    """A review, its volumes, and ways to look at its views."""

    SHAPE, SPACING, SIZE = SHAPE, SPACING, SIZE
    LESION, BRAIN, SKULL, AIR = (24, 22, 3), (-20, 10, 3), (64, 0, 3), (90, -95, 3)  # points in RAS, mm

    def __init__(self) -> None:
        from DiffMaSlicerLib.review import layouts, views
        from DiffMaSlicerLib.review.review import Review

        self.views = views
        self.review = Review()
        self.ct, self.mr, self.sd = (layouts.View(role) for role in (layouts.CT, layouts.MR, layouts.UNCERTAINTY))
        self.volumes: dict = {}

    def load(self, tilt: float = 0.0, without: tuple[str, ...] = ()) -> dict:
        """Put the head's volumes into the scene, tilted by so many degrees about the left-right axis."""
        import slicer

        for role, array in self.head().items():
            if role in without:
                continue
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", role)
            slicer.util.updateVolumeFromArray(node, array)
            node.SetIJKToRASMatrix(_matrix(tilt))
            node.CreateDefaultDisplayNodes()
            self.volumes[role] = node
        return self.volumes

    def show(self, layout: str = "side-by-side", **how) -> None:
        """Load the head, if it is not there yet, and show all of it."""
        v = self.volumes or self.load(**how)
        rest = {"uncertaintyNode": "uncertainty", "softMaskNode": "softmask", "differenceNode": "difference"}
        self.review.show(v["ct"], v["mr"], **{name: v.get(role) for name, role in rest.items()}, layout=layout)

    def shows(self, view) -> tuple[str | None, str | None]:
        """Roles of the volumes in the view's background and foreground."""
        node = self.views.composite_node(view)
        names = {volume.GetID(): role for role, volume in self.volumes.items()}
        return names.get(node.GetBackgroundVolumeID()), names.get(node.GetForegroundVolumeID())

    def scroll(self, view, offset: float) -> None:
        """Move the slice as the slider above the view does."""
        logic = self.views.slice_logic(view)
        logic.StartSliceOffsetInteraction()
        logic.SetSliceOffset(offset)
        logic.EndSliceOffsetInteraction()

    def point(self, view, point: tuple[float, float, float], shift: bool = False) -> None:
        """Move the mouse in the view to a point (RAS, mm)."""
        import vtk

        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.views.slice_node(view).GetXYToRAS(), to_xy)
        x, y = to_xy.MultiplyPoint((*point, 1.0))[:2]
        interactor = self.views.slice_view(view).interactor()
        interactor.SetEventInformation(round(x), round(y), 0, int(shift))
        interactor.InvokeEvent("EnterEvent")
        interactor.InvokeEvent("MouseMoveEvent")

    def resize(self, view, size: tuple[int, int] = SIZE) -> None:
        """Give the view so many pixels, as its widget does when the window is resized."""
        import slicer

        self.views.slice_view(view).renderWindow().SetSize(*size)
        self.views.slice_logic(view).ResizeSliceNode(*size)
        slicer.app.processEvents()

    def picture(self, view, size: tuple[int, int] = SIZE) -> np.ndarray:
        """RGB picture of the real slice view at this size: uint8; rows from the top, columns, 3."""
        self.resize(view, size)
        picture = picture_of(self.views.slice_view(view).renderWindow())
        assert picture.shape[1::-1] == size
        return picture.astype(int)

    def at(self, view, point: tuple[float, float, float], size: tuple[int, int] = SIZE) -> tuple[int, int]:
        """Row (from the top) and column of the picture at which a point (RAS, mm) is seen."""
        import vtk

        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.views.slice_node(view).GetXYToRAS(), to_xy)
        x, y = to_xy.MultiplyPoint((*point, 1.0))[:2]
        return round(size[1] - 1 - y), round(x)

    def color(self, view, point: tuple[float, float, float]) -> tuple[int, int, int]:
        """What the picture of the view shows at a point (RAS, mm)."""
        seen = self.picture(view)
        return tuple(seen[self.at(view, point)].tolist())

    def head(self) -> dict[str, np.ndarray]:
        """Arrays of one head (z, y, x) by role: CT in HU, the rest in units of their own."""
        z, y, x = np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij")
        radius = np.sqrt((x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 1.1) ** 2)
        skull, brain = (radius < 1) & (radius > 0.88), radius <= 0.88
        lesion = np.sqrt((x + 0.25) ** 2 + (y + 0.2) ** 2 + (1.5 * z) ** 2) < 0.2
        images: dict[str, tuple[list[float], float]] = {
            "ct": ([70, 900, 30], -1000),
            "mr": ([1000, 50, 600], 0),
            "uncertainty": ([120, 5, 15], 0),
            "softmask": ([0.95, 0.0, 0.4], 0),
            "difference": ([0.5, -0.3, 0.0], 0),
        }
        return {
            name: np.select([lesion, skull, brain], values, outside).astype(np.float32)
            for name, (values, outside) in images.items()
        }

    def legends(self) -> list:
        """The colour scales in the scene."""
        import slicer

        return list(slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"))


def _matrix(tilt: float):
    import vtk

    turn = vtk.vtkTransform()
    turn.RotateX(tilt)
    turn.Scale(-SPACING[0], -SPACING[1], SPACING[2])
    turn.Translate(*[-(size - 1) / 2 for size in SHAPE[::-1]])
    return turn.GetMatrix()
