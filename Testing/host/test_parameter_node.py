"""The parameter node wrapper keeps, checks and shows values as Slicer's does."""

import enum
import pathlib
from typing import Annotated

import ctk
import pytest
import qt
import slicer
from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange, parameterNodeWrapper


class Speed(enum.Enum):
    FAST = 1
    FINE = 2


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    steps: Annotated[int, WithinRange(1, 1000)] = 20
    opacity: Annotated[float, WithinRange(0, 1)] = 0.5
    scheduler: Annotated[str, Choice(["dpm++", "ddim"])] = "dpm++"
    speed: Speed
    seed: Annotated[int, Minimum(0), Default(7)]
    fine: bool = True
    note: str
    folder: pathlib.Path
    names: list[str]


@pytest.fixture
def node(slicer_host):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def parameters(node):
    return Parameters(node)


def bound(kind, name):
    widget = kind()
    widget.setProperty("SlicerParameterName", name)
    return widget


def gui(**widgets):
    holder = type("Ui", (), {})()
    holder.__dict__.update(widgets)
    return holder


def test_defaults_are_written_into_the_node(node, parameters):
    assert (parameters.steps, parameters.scheduler, parameters.speed) == (20, "dpm++", Speed.FAST)
    assert (parameters.seed, parameters.fine, parameters.volume) == (7, True, None)
    assert node.GetParameter("steps") == "20"
    assert node.GetParameter("fine") == "True"
    assert parameters.default("steps").value == 20


def test_values_survive_in_the_node(node, parameters):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    parameters.volume, parameters.speed, parameters.opacity = volume, Speed.FINE, 0.25
    parameters.folder, parameters.names = pathlib.Path("/data"), ["a", "b"]
    again = Parameters(node)
    assert (again.volume, again.speed, again.opacity) == (volume, Speed.FINE, 0.25)
    assert (again.folder, again.names) == (pathlib.Path("/data"), ["a", "b"])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("steps", 0, ValueError),
        ("steps", None, ValueError),
        ("steps", 2.5, TypeError),
        ("scheduler", "euler", ValueError),
        ("note", 5, TypeError),
        ("fine", 1, TypeError),
        ("volume", "CT", TypeError),
    ],
)
def test_bad_values_are_refused_and_change_nothing(parameters, name, value, error):
    before = getattr(parameters, name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_changing_a_list_in_place_is_kept(node, parameters):
    parameters.names.append("c")
    assert Parameters(node).names == ["c"]


def test_a_change_of_the_node_is_seen_and_told(node, parameters):
    told = []
    tag = parameters.AddObserver("ModifiedEvent", lambda caller, event: told.append(parameters.steps))
    node.SetParameter("steps", "33")
    parameters.RemoveObserver(tag)
    parameters.steps = 34
    assert told == [33]


def test_a_removed_volume_is_let_go(parameters):
    parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.mrmlScene.RemoveNode(parameters.volume)
    assert parameters.volume is None


def test_widgets_and_parameters_follow_each_other(parameters):
    slider, box = bound(ctk.ctkSliderWidget, "steps"), bound(qt.QComboBox, "scheduler")
    check, line, speed = bound(qt.QCheckBox, "fine"), bound(qt.QLineEdit, "note"), bound(qt.QComboBox, "speed")
    speed.addItems(["x", "y"])
    tag = parameters.connectGui(gui(slider=slider, box=box, check=check, line=line, speed=speed))
    assert (slider.minimum, slider.maximum, slider.value) == (1, 1000, 20)
    slider.value, box.currentIndex, check.checked, line.text = 50, 1, False, "hello"
    speed.currentIndex = 1
    assert (parameters.steps, parameters.scheduler, parameters.fine) == (50, "ddim", False)
    assert (parameters.note, parameters.speed) == ("hello", Speed.FINE)
    parameters.steps = 60
    assert slider.value == 60
    parameters.disconnectGui(tag)
    slider.value = 70
    assert parameters.steps == 60


def test_a_node_selector_takes_its_types_from_the_parameter(parameters):
    selector = bound(slicer.qMRMLNodeComboBox, "volume")
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    parameters.connectGui(gui(selector=selector))
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    selector.setCurrentNode(node)
    assert parameters.volume is node


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (qt.QComboBox, "note", "Choice"),
        (qt.QLineEdit, "steps", "Unable to create GUI connector"),
        (qt.QPlainTextEdit, "note", "Unable to create GUI connector"),
        (ctk.ctkSliderWidget, "seed", "unbounded"),
        (qt.QSlider, "seed", "unbounded"),
        (ctk.ctkCollapsibleButton, "fine", "Unable to create GUI connector"),
    ],
)
def test_a_pair_that_slicer_cannot_tie_is_refused(parameters, kind, name, message):
    with pytest.raises(RuntimeError, match=message):
        parameters.connectGui(gui(widget=bound(kind, name)))


def test_an_unknown_parameter_name_is_refused(parameters):
    with pytest.raises(ValueError, match="nosuch"):
        parameters.connectGui(gui(widget=bound(qt.QCheckBox, "nosuch")))


def test_reserved_names_and_unknown_types_are_refused():
    with pytest.raises(ValueError, match="reserved"):
        parameterNodeWrapper(type("Bad", (), {"__annotations__": {"default": int}}))
    with pytest.raises(Exception, match="serializer"):
        parameterNodeWrapper(type("Bad", (), {"__annotations__": {"number": complex}}))
