"""Sample data: registered once Slicer has started, checked by checksum, and replaced by a phantom without a network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).resolve().parents[2] / "DiffMaSlicer" / "DiffMaSlicer.py"


@pytest.fixture
def samples(slicer_host: Any, warm: None) -> dict[str, Any]:
    """Name to source, as the Sample Data module sees them."""
    slicer_host.load_module(MODULE, select=False)
    slicer_host.start_up()
    import SampleData

    return {
        source.sampleName: source for source in SampleData.SampleDataLogic.sampleDataSourcesByCategory("DiffMaSlicer")
    }


def test_start_up_registers_a_head_ct_with_checksum_and_a_phantom(samples: dict[str, Any]) -> None:
    assert set(samples) == {"DiffMaHeadCT", "DiffMaPhantom"}
    head = samples["DiffMaHeadCT"]
    algorithm, digest = head.checksums[0].split(":")
    assert algorithm == "SHA256" and len(digest) == 64
    assert head.uris[0].endswith(f"SHA256/{digest}")
    assert Path(samples["DiffMaPhantom"].thumbnailFileName).is_file()


def test_registering_again_adds_nothing(samples: dict[str, Any]) -> None:
    import SampleData
    from DiffMaSlicerLib.sample_data import registerSampleData

    registerSampleData()

    assert len(SampleData.SampleDataLogic.sampleDataSourcesByCategory("DiffMaSlicer")) == len(samples)


def test_phantom_needs_no_address(samples: dict[str, Any]) -> None:
    assert list(samples["DiffMaPhantom"].uris) == []


def test_phantom_button_loads_a_ct_with_its_true_mri(samples: dict[str, Any]) -> None:
    import slicer

    source = samples["DiffMaPhantom"]
    (ct,) = source.customDownloader(source)

    assert slicer.mrmlScene.IsNodePresent(ct)
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert names == ["Head phantom CT", "Head phantom MR"]


def test_without_a_network_the_sample_is_a_phantom_and_says_so(samples: dict[str, Any]) -> None:
    from DiffMaSlicerLib.sample_data import loadSampleCT

    node, sentence = loadSampleCT()

    assert node.GetName() == "Head phantom CT"
    assert "could not be downloaded" in sentence and "no patient" in sentence


def test_download_leaves_the_time_limit_of_others_as_it_was(samples: dict[str, Any]) -> None:
    from DiffMaSlicerLib.sample_data import loadHeadCT

    before = socket.getdefaulttimeout()
    with pytest.raises(RuntimeError, match="network"):
        loadHeadCT()
    assert socket.getdefaulttimeout() == before
