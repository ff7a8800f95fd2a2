"""The stand-in refuses what a real Slicer with Qt 5.15 or Qt 6 does not have."""

import ctk
import pytest
import qt
import slicer


@pytest.fixture(autouse=True)
def host(slicer_host):
    return slicer_host


@pytest.mark.parametrize("name", ["QRegExp", "QDesktopWidget", "QRhi", "SIGNAL", "QtCore", "QQuickView", "nosuch"])
def test_qt_has_only_classes_that_pythonqt_wraps_and_both_versions_have(name):
    with pytest.raises(AttributeError):
        getattr(qt, name)


@pytest.mark.parametrize("name", ["setRange", "setMinimum", "spinBox", "nosuch"])
def test_a_ctk_widget_has_only_what_the_real_one_exports(name):
    assert not hasattr(ctk.ctkSliderWidget(), name)


@pytest.mark.parametrize("name", ["setNodeTypes", "nodes", "setNoneEnabled", "user_chooses", "currentText"])
def test_the_node_selector_has_only_what_the_real_one_exports(name):
    assert not hasattr(slicer.qMRMLNodeComboBox(), name)


@pytest.mark.parametrize("name", ["arrayFromVolume", "loadVolume", "util_nosuch", "packaging"])
def test_slicer_has_no_flat_names_of_util_and_nothing_newer_than_5_10(name):
    assert not hasattr(slicer, name)


@pytest.mark.parametrize("name", ["mainWindow", "session", "testing", "nosuch"])
def test_the_application_has_only_what_the_real_one_exports(name):
    assert not hasattr(slicer.app, name)


def test_a_property_takes_only_its_own_type():
    with pytest.raises(AttributeError, match="does not accept"):
        qt.QLabel().text = None
    with pytest.raises(AttributeError, match="does not accept"):
        qt.QSpinBox().value = "5"
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 2


def test_python_cannot_subclass_qt_classes():
    with pytest.raises(TypeError, match="subclass"):
        type("Mine", (qt.QWidget,), {})


def test_threads_and_signals_of_our_own_are_refused():
    with pytest.raises(TypeError, match="thread"):
        qt.QThread().start()
    with pytest.raises(TypeError, match="Signal"):
        qt.Signal("int")


def test_keyword_arguments_are_refused():
    with pytest.raises(TypeError, match="keyword"):
        qt.QLabel(text="x")


def test_a_deleted_object_is_refused():
    label = qt.QLabel("x")
    label.delete()
    assert not label
    with pytest.raises(ValueError, match="destroyed"):
        label.text  # noqa: B018


def write_ui(folder, widget, extra=""):
    path = folder / "test.ui"
    path.write_text(f'<ui version="4.0"><class>T</class>{widget}{extra}</ui>')
    return str(path)


def test_a_ui_file_with_an_unknown_class_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="ctkNoSuchWidget"):
        slicer.util.loadUI(write_ui(tmp_path, '<widget class="ctkNoSuchWidget" name="T"/>'))


def test_a_ui_file_with_an_enum_of_qt_6_is_refused(tmp_path):
    alignment = '<property name="alignment"><set>Qt::AlignmentFlag::AlignLeft</set></property>'
    with pytest.raises(RuntimeError, match="Qt 5"):
        slicer.util.loadUI(write_ui(tmp_path, f'<widget class="QLabel" name="T">{alignment}</widget>'))


def test_a_ui_file_with_an_unknown_signal_is_refused(tmp_path):
    ends = "<sender>T</sender><signal>nosuch()</signal><receiver>T</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>"
    extra = f"<connections><connection>{ends}</connection></connections>"
    with pytest.raises(RuntimeError, match="nosuch"):
        slicer.util.loadUI(write_ui(tmp_path, '<widget class="qMRMLWidget" name="T"/>', extra))


def test_a_dialog_without_an_answer_fails(host):
    with pytest.raises(AssertionError, match="No answer"):
        slicer.util.confirmYesNoDisplay("Really?")
    host.dialogs.unanswered.clear()


def test_a_dialog_gets_the_answer_of_the_test(host):
    host.dialogs.answer("message", "Yes")
    host.dialogs.answer("folder", "/tmp")
    assert slicer.util.confirmYesNoDisplay("Really?") is True
    assert qt.QFileDialog.getExistingDirectory(None, "Models") == "/tmp"
    assert [shown.text for shown in host.dialogs.shown] == ["Really?", ""]
