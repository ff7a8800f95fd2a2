"""The module ``SampleData``: sources are registered and found as in Slicer; there is never a network."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

downloads: dict[str, Path] = {}  # what a test has put "on the network", by address


def _listed(value: Any, length: int = 1) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value] * length


class SampleDataSource:
    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Callable | None = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: dict | None = None,
    ) -> None:
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.uris = _listed(uris)
        count = len(self.uris)
        self.fileNames, self.nodeNames = _listed(fileNames, count), _listed(nodeNames, count)
        self.checksums, self.loadFiles = _listed(checksums, count), _listed(loadFiles, count)
        self.loadFileTypes = _listed(loadFileTypes, count)
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        if not count == len(self.fileNames) == len(self.nodeNames):
            raise ValueError(f"The sample {sampleName} has unequal numbers of addresses, files and nodes.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleDataSource) and vars(self) == vars(other)

    __hash__ = object.__hash__


def _sources() -> dict[str, list[SampleDataSource]]:
    if not hasattr(slicer.modules, "sampleDataSources"):
        slicer.modules.sampleDataSources = {}
    return slicer.modules.sampleDataSources


class SampleDataLogic:
    def __init__(self, logMessage: Callable | None = None) -> None:
        if logMessage:
            self.logMessage = logMessage

    def logMessage(self, message: str, logLevel: int = 0) -> None:
        pass

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **source: Any) -> None:
        made, known = SampleDataSource(**source), _sources().setdefault(category, [])
        if made not in known:
            known.append(made)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        return _sources() if category is None else _sources().get(category, [])

    @staticmethod
    def isSampleDataSourceRegistered(category: str, sampleDataSource: SampleDataSource) -> bool:
        return sampleDataSource in _sources().get(category, [])

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        known = [source for sources in _sources().values() for source in sources]
        return next((source for source in known if source.sampleName == sampleName), None)

    def downloadFromSource(
        self, source: SampleDataSource, maximumAttemptsCount: int = 3, forceDownload: bool = False
    ) -> list:
        """The loaded nodes; nothing where the network does not have the file, as in Slicer."""
        nodes = []
        for address, name, checksum in zip(source.uris, source.nodeNames, source.checksums, strict=True):
            path = downloads.get(address)
            if path is None:
                self.logMessage("Download failed.", 40)
                continue
            algorithm, digest = slicer.util.extractAlgoAndDigest(checksum)
            if slicer.util.computeChecksum(algorithm, str(path)) != digest:
                self.logMessage("Checksum is wrong.", 40)
                continue
            nodes.append(slicer.util.loadVolume(str(path), {"name": name}))
        return nodes

    def downloadSample(self, sampleName: str) -> Any:
        nodes = self.downloadFromSource(self.sourceForSampleName(sampleName))
        return nodes[0] if nodes else None


def module() -> types.ModuleType:
    """The module as ``SampleData``."""
    made = types.ModuleType("SampleData")
    made.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    made.SampleDataSource = SampleDataSource  # type: ignore[attr-defined]
    return made
