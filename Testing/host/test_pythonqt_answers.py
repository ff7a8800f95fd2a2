"""What real Slicer 5.13 (PythonQt 4.1, Qt 5.15) answered to these idioms; the stand-in answers the same."""

import ctk
import pytest
import qt
import slicer


@pytest.fixture(autouse=True)
def host(slicer_host):
    return slicer_host


@pytest.fixture
def button():
    return qt.QPushButton("x")


def test_properties_are_plain_values(button):
    slider, combo, check = qt.QSlider(), qt.QComboBox(), qt.QCheckBox()
    combo.addItem("a")
    button.objectName = "b"
    assert (button.text, button.enabled, button.visible) == ("x", True, False)
    assert (slider.value, combo.currentText, combo.count, combo.currentIndex) == (0, "a", 1, 0)
    assert (check.checked, button.objectName, button.name) == (False, "b", "b")
    assert isinstance(button.width, int)


@pytest.mark.parametrize("call", ["button.text()", "button.width()", "combo.currentNodeID()"])
def test_calling_a_property_is_a_type_error(button, call):
    with pytest.raises(TypeError, match=r"'(str|int)' object is not callable"):
        eval(call, {"button": button, "combo": slicer.qMRMLNodeComboBox()})


def test_setters_and_methods_that_are_no_properties_are_called(button):
    button.setText("y")
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    layout.addWidget(button)
    assert button.text == "y"
    assert button.isEnabled() is True
    assert button.isVisible() is False
    assert qt.QCheckBox().isChecked() is False
    assert layout.count() == 1
    assert button.parent() is widget
    assert button.window() is widget
    assert widget.layout() is layout
    assert widget.children() == (layout, button)
    assert widget.size.width() == widget.width


def test_check_state_is_a_slot_that_gives_an_int():
    check = qt.QCheckBox()
    assert callable(check.checkState)
    assert check.checkState() == 0
    assert isinstance(check.checkState(), int)


def test_properties_can_be_set_and_dynamic_ones_made(button):
    spin, combo = qt.QSpinBox(), qt.QComboBox()
    spin.maximum = 500
    combo.addItems(["a", "b"])
    combo.currentIndex = 1
    button.setProperty("p", 3)
    assert (spin.maximum, combo.currentText, button.property("p")) == (500, "b", 3)


def test_unknown_attributes_are_refused(button):
    with pytest.raises(AttributeError):
        button.nosuch  # noqa: B018
    with pytest.raises(AttributeError):
        button.nosuch = 1


def test_class_name(button):
    assert button.className() == "QPushButton"


def test_children_are_found_by_class_and_by_class_name(button):
    widget = qt.QWidget()
    button.setParent(widget)
    assert widget.findChild("QPushButton") is button
    assert widget.findChildren(qt.QPushButton) == (button,)
    assert widget.findChildren(qt.QWidget) == (button,)


def test_enums_and_flags_are_ints():
    assert int(qt.Qt.AlignLeft | qt.Qt.AlignTop) == 33
    assert int(qt.QMessageBox.Ok) == 1024
    assert int(qt.QFormLayout.AllNonFixedFieldsGrow) == 2


def test_signals_connect_by_text_and_by_attribute(button, capsys):
    calls = []
    assert button.connect("clicked()", lambda: calls.append("text")) is True
    assert button.clicked.connect(lambda: calls.append("attribute")) is True
    button.click()
    assert calls == ["text", "attribute"]


def test_a_wrong_signal_warns_and_gives_false(button, capsys):
    assert button.connect("clicket()", print) is False
    assert "signal 'clicket()' does not exist" in capsys.readouterr().err


def test_a_slot_with_too_many_arguments_connects_and_fails_when_called(host, button):
    assert button.connect("clicked()", lambda one, two: None) is True
    button.click()
    assert isinstance(host.take_errors()[0][1], TypeError)


def test_a_disconnected_slot_is_not_called_again():
    spin, calls = qt.QSpinBox(), []
    spin.connect("valueChanged(int)", calls.append)
    spin.value = 1
    assert spin.disconnect("valueChanged(int)", calls.append) is True
    spin.value = 2
    assert calls == [1]


def test_items_keep_python_data():
    combo = qt.QComboBox()
    combo.addItems(["a", "b"])
    combo.setItemData(1, {"k": 1})
    combo.currentIndex = 1
    assert combo.itemData(1) == {"k": 1}
    assert combo.currentData == {"k": 1}


def test_settings_keep_types_within_a_session():
    qt.QSettings().setValue("z/a", 5)
    qt.QSettings().setValue("z/b", True)
    assert qt.QSettings().value("z/a") == 5
    assert qt.QSettings().value("z/b") is True


def test_names_that_exist():
    assert callable(qt.QDialog().exec_)
    assert callable(qt.QDialog().exec)
    assert callable(qt.QFileDialog.getOpenFileName)
    assert qt.Signal
    assert qt.QThread


def test_single_shot_and_process_events_give_none(host):
    called = []
    assert qt.QTimer.singleShot(0, lambda: called.append(True)) is None
    assert qt.QApplication.processEvents() is None
    host.wait_until(lambda: called)


def test_ctk_widgets_have_properties():
    section, slider = ctk.ctkCollapsibleButton(), ctk.ctkSliderWidget()
    section.text = "Section"
    slider.maximum = 1000
    slider.value = 20
    assert (section.text, section.collapsed) == ("Section", False)
    assert (slider.maximum, slider.value) == (1000, 20)


def test_node_types_are_set_with_a_list_and_read_as_a_tuple():
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert combo.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_the_node_selector_mixes_methods_and_properties():
    combo = slicer.qMRMLNodeComboBox()
    assert combo.currentNode() is None
    assert combo.currentNodeID == ""
    assert combo.nodeCount() == 0
    assert combo.connect("currentNodeChanged(vtkMRMLNode*)", print) is True
    assert combo.connect("currentNodeChanged(bool)", print) is True
