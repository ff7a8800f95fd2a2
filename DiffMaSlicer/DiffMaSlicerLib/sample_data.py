"""Sample data: a public head CT of Slicer's own, and a head phantom that is made on the spot, without a network."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.util import TESTING_DATA_URL

CATEGORY = "DiffMaSlicer"
HEAD_CT = "DiffMaHeadCT"
PHANTOM = "DiffMaPhantom"

_HEAD_CT_SHA256 = "6a5b6caccb76576a863beb095e3bfb910c50ca78f4c9bf043aa42f976cfa53d1"
_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
_TIMEOUT = 5.0  # seconds without an answer; a hospital's firewall often gives none


def registerSampleData() -> None:
    """Add both to the Sample Data module; called once Slicer has started, and harmless when repeated."""
    import SampleData

    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    register(
        category=CATEGORY,
        sampleName=HEAD_CT,
        uris=TESTING_DATA_URL + "SHA256/" + _HEAD_CT_SHA256,
        fileNames="CT-brain.nrrd",
        checksums="SHA256:" + _HEAD_CT_SHA256,
        nodeNames="CTBrain",  # the name of Slicer's own thumbnail, too
    )
    register(
        category=CATEGORY,
        sampleName=PHANTOM,
        uris=[],  # nothing is downloaded
        fileNames=[],
        nodeNames=[],
        customDownloader=_loadPhantomSample,
        thumbnailFileName=str(_ICONS / "DiffMaPhantom.png"),
    )


def loadHeadCT() -> Any:
    """The public head CT that Slicer offers with its CT-MR brain sample: from Slicer's cache, else downloaded.

    Raises:
        RuntimeError: it cannot be downloaded.
    """
    import SampleData

    registerSampleData()
    logic = SampleData.SampleDataLogic(_showMessage)
    source = logic.sourceForSampleName(HEAD_CT)
    with _impatient():
        loaded = logic.downloadFromSource(source, maximumAttemptsCount=1)
    nodes = [node for node in loaded if hasattr(node, "GetImageData")]
    if not nodes:
        raise RuntimeError(_("The sample CT could not be downloaded. Check the network and its proxy settings."))
    return nodes[0]


def loadPhantom(logic: Any = None) -> Any:
    """Make the head phantom; returns its CT node. Its true MRI is loaded beside it.

    Args:
        logic: the module's; None makes one for this call.

    Raises:
        RuntimeError: the child process failed, with cause and remedy.
    """
    if logic is not None:
        return logic.makePhantom()[0]
    from DiffMaSlicerLib.logic import DiffMaSlicerLogic

    own = DiffMaSlicerLogic()
    try:
        return own.makePhantom()[0]
    finally:
        own.cleanup()


def loadSampleCT(logic: Any = None) -> tuple[Any, str]:
    """The head CT, or the phantom where it cannot be downloaded; returns the CT node and a sentence about it.

    Raises:
        RuntimeError: neither can be had, with cause and remedy.
    """
    try:
        return loadHeadCT(), _("This is the public head CT of Slicer's sample data.")
    except RuntimeError:
        node = loadPhantom(logic)
        return node, _("The sample CT could not be downloaded, so this is a phantom made on this machine, no patient.")


def _loadPhantomSample(source: Any) -> list[Any]:
    """What the Sample Data module calls when its button is pressed."""
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=True):
        node = loadPhantom()
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return [node]
    return []


def _showMessage(message: str, logLevel: int = logging.DEBUG) -> None:
    """Tell the status bar how far the download is, and let the window draw itself."""
    import qt

    slicer.util.showStatusMessage(re.sub(r"<[^>]*>", "", message), 3000)
    slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)


@contextmanager
def _impatient() -> Iterator[None]:
    """Sample Data sets no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
