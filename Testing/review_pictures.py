"""Draw the pictures of panel and review that stand in the documents: ``python -m Testing.review_pictures [FOLDER]``.

A rendered head is converted with the DEMO model (half a minute on two CPU cores; what is already in FOLDER is used
again), shown by the module's own panel and review in real slice views without a screen, and put into ``Screenshots``,
with a list of the panel's controls, by which a test notices that the picture of the panel has become old.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from Testing.slicer_host.pictures import picture_of

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "Screenshots"
CONTROLS = PICTURES / "panel.txt"
INTERFACE = ROOT / "DiffMaSlicer" / "Resources" / "UI" / "DiffMaSlicer.ui"
_GAP = 3  # pixels between the views


def make_images(folder: Path) -> dict[str, Path]:
    """CT, synthetic MRI, uncertainty, soft mask and difference to the phantom's own MRI: role and file of each."""
    names = ("ct", "true", "mr", "mr_uncertainty", "softmask", "difference")
    files = {name: folder / f"{name}.nii.gz" for name in names}
    ct, true, mr = files["ct"], files["true"], files["mr"]
    commands = [
        ["phantom", ct, "--mr", true],
        ["convert", ct, mr, "--uncertainty", "--soft-mask", files["softmask"]],
        ["compare", mr, true, "--ct", ct, "--difference", files["difference"]],
    ]
    for command, made in zip(commands, ("ct", "mr", "difference"), strict=True):
        if not files[made].exists():
            subprocess.run([sys.executable, "-m", "DiffMaCore", *map(str, command)], check=True, cwd=ROOT)
    files["uncertainty"] = files["mr_uncertainty"]
    return {role: files[role] for role in ("ct", "mr", "uncertainty", "softmask", "difference")}


def draw(files: dict[str, Path]) -> None:
    """Show the images in the review and save its pictures."""
    sys.path.insert(0, str(ROOT / "DiffMaSlicer"))
    from Testing.slicer_host.host import Host

    host = Host()
    try:
        import slicer
        from DiffMaSlicerLib.review.layouts import CT, MR, View, layouts
        from DiffMaSlicerLib.review.review import Review

        nodes = {role: slicer.util.loadVolume(str(file), {"show": False}) for role, file in files.items()}
        nodes["mr"].SetAttribute("DiffMa.model", "demo")
        review = Review()
        review.show(
            nodes["ct"],
            nodes["mr"],
            uncertaintyNode=nodes["uncertainty"],
            softMaskNode=nodes["softmask"],
            differenceNode=nodes["difference"],
        )
        shots = {
            "side-by-side": ("side-by-side", "none", (420, 440)),
            "three-planes": ("three-planes", "none", (300, 300)),
            "uncertainty": ("with-uncertainty", "none", (330, 350)),
            "checkerboard": ("side-by-side", "checkerboard", (420, 440)),
        }
        for name, (layout, kind, size) in shots.items():
            review.setLayout(layout)
            review.setLayers(kind)
            save(name, [[picture(view, size) for view in row] for row in layouts()[layout].rows])
        seen = []
        for kind, role in {"reveal": CT, "softmask": CT, "uncertainty": MR, "difference": MR}.items():
            review.setLayers(kind, opacity=0.6)
            seen.append(picture(View(role), (330, 350)))
        save("layers", [seen[:2], seen[2:]])
        review.close()
    finally:
        host.end()


def draw_tutorial(folder: Path) -> None:
    """A picture for each step of the tutorial, of the panel and of both views once there is something in them.

    The derived series of its last step goes to ``folder``.
    """
    sys.path.insert(0, str(ROOT / "DiffMaSlicer"))
    from Testing.slicer_host.host import Host

    host = Host()
    try:
        from DiffMaSlicerLib.review.layouts import CT, MR, View

        widget = host.load_module(ROOT / "DiffMaSlicer" / "DiffMaSlicer.py")
        ui, seen = widget.ui, widget.layout.parentWidget().qt_object()

        def shoot(name: str, *, views: bool = True, top: int = 0) -> None:
            seen.resize(400 if not ui.metricsTable.isVisible() else 430, 760)
            host.process_events()
            image = seen.grab().toImage().convertToFormat(seen.grab().toImage().Format.Format_RGB888)
            rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
            shot = rows[: top or None, : 3 * image.width()].reshape(-1, image.width(), 3)
            sides = [picture(View(role), (340, len(shot))) for role in (CT, MR)] if views else []
            save(name, [[shot, *sides]])

        host.wait_until(lambda: widget.machine, 600, "the machine's facts")
        ct, true = widget.logic.makePhantom()
        widget.parameters.inputVolume = ct
        shoot("tutorial-1", views=False)
        shoot("tutorial-2", views=False, top=105)
        host.click(ui.applyButton)
        job = host.wait_until(lambda: widget.run._view.job, 60, "the run")
        host.wait_until(lambda: len(job.finishedSlices) > 8, 1800, "some slices")
        shoot("tutorial-3")
        host.wait_until(lambda: not widget.running, 3600, "the end of the conversion")
        shoot("panel")
        CONTROLS.write_text("\n".join(controls()) + "\n", encoding="utf-8")
        widget.reviewSection._chooseLayers("overlay")
        shoot("tutorial-5")
        host.choose(ui.trueSelector, true)
        host.wait_until(ui.metricsTable.isVisible, 600, "the measures")
        widget.reviewSection._chooseLayers("difference")
        shoot("tutorial-6")
        host.dialogs.answer("folder", str(folder))
        host.click(ui.exportDicomButton)
        host.wait_until(lambda: "series" in ui.messageText.text, 600, "the series")
        shoot("tutorial-7", views=False)
    finally:
        host.end()


def controls() -> list[str]:
    """Names of what a user can act on in the panel's interface file."""
    widgets = ElementTree.parse(INTERFACE).iter("widget")
    return sorted(each.get("name", "") for each in widgets if each.get("class") not in ("QLabel", "QWidget", "QFrame"))


def picture(view, size: tuple[int, int]) -> np.ndarray:
    """RGB picture of a slice view at this size (width, height): uint8; rows from the top, columns, 3."""
    import slicer
    from DiffMaSlicerLib.review import views

    window = views.slice_view(view).renderWindow()
    window.SetSize(*size)
    views.slice_logic(view).ResizeSliceNode(*size)
    slicer.app.processEvents()
    return picture_of(window)


def save(name: str, rows: list[list[np.ndarray]]) -> None:
    """Put pictures of one size into a grid and write it as PNG."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    framed = [[np.pad(seen, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=70) for seen in row] for row in rows]
    whole = np.vstack([np.hstack(row) for row in framed])[:-_GAP, :-_GAP]
    image = vtk.vtkImageData()
    image.SetDimensions(whole.shape[1], whole.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(whole[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetCompressionLevel(9)
    writer.SetFileName(str(PICTURES / f"{name}.png"))
    writer.SetInputData(image)
    writer.Write()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        made = make_images(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
        draw(made)
        draw_tutorial(Path(temporary) / "synthetic_mr")
