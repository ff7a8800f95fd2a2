"""The node selector follows the scene as Slicer's does."""

import pytest
import slicer

CLASS = "vtkMRMLScalarVolumeNode"


@pytest.fixture
def selector(slicer_host):
    made = slicer.qMRMLNodeComboBox()
    made.nodeTypes = [CLASS]
    made.addEnabled = False
    made.removeEnabled = False
    made.noneEnabled = True
    return made


@pytest.fixture
def told(selector):
    calls = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: calls.append(node and node.GetName()))
    return calls


def volume(name, cls=CLASS):
    return slicer.mrmlScene.AddNewNodeByClass(cls, name)


def test_it_is_disabled_until_it_has_a_scene(selector):
    assert selector.enabled is False
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.enabled is True


def test_a_node_can_be_chosen_by_the_user_and_by_code(slicer_host, selector, told):
    selector.setMRMLScene(slicer.mrmlScene)
    first, second = volume("A"), volume("B")
    slicer_host.choose(selector, first)
    selector.setCurrentNode(second)
    selector.setCurrentNode(None)
    assert told == ["A", "B", None]


def test_without_none_the_first_node_is_chosen_at_once(selector, told):
    selector.noneEnabled = False
    selector.setMRMLScene(slicer.mrmlScene)
    node = volume("A")
    volume("B")
    assert selector.currentNode() is node
    assert told == ["A"]


def test_an_id_set_before_the_scene_is_chosen_with_it(selector):
    node = volume("A")
    selector.setCurrentNodeID(node.GetID())
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNodeID == node.GetID()


def test_only_nodes_that_pass_the_filters_are_offered(selector):
    selector.setMRMLScene(slicer.mrmlScene)
    volume("A")
    volume("L", "vtkMRMLLabelMapVolumeNode")
    volume("T", "vtkMRMLLinearTransformNode")
    volume("hidden").SetHideFromEditors(True)
    assert selector.nodeCount() == 2  # a label map is a scalar volume too
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert selector.nodeCount() == 1
    selector.addAttribute(CLASS, "DiffMa.synthetic", "1")
    assert selector.nodeCount() == 0


def test_renaming_is_followed_and_told(selector, told):
    selector.setMRMLScene(slicer.mrmlScene)
    node = volume("A")
    selector.setCurrentNode(node)
    node.SetName("B")
    assert told == ["A", "B"]


def test_a_removed_node_is_left(selector):
    selector.setMRMLScene(slicer.mrmlScene)
    node = volume("A")
    selector.setCurrentNode(node)
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None


def test_closing_the_scene_empties_it(slicer_host, selector):
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(volume("A"))
    slicer_host.close_scene()
    assert (selector.nodeCount(), selector.currentNodeID) == (0, "")


def test_the_user_can_create_and_delete_a_node(slicer_host, selector):
    selector.addEnabled = True
    selector.removeEnabled = True
    selector.baseName = "Synthetic"
    selector.setMRMLScene(slicer.mrmlScene)
    slicer_host.choose(selector, "Create new Volume")
    assert selector.currentNode().GetName() == "Synthetic"
    slicer_host.choose(selector, "Delete current Volume")
    assert selector.nodeCount() == 0
    with pytest.raises(AssertionError, match="offers"):
        slicer_host.choose(selector, "Create new Table")
