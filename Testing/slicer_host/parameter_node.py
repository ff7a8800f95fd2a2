"""``slicer.parameterNodeWrapper``: typed access to a parameter node, and its tie to the panel's widgets."""

import logging
import types
import typing
import weakref
from typing import Any

import slicer
from vtkmodules.vtkCommonCore import vtkCommand

from . import parameter_types
from .parameter_types import Default, Validator, serializer, split_annotations

PROPERTY = "SlicerParameterName"


class _Parameter:
    """One field of a wrapper class."""

    def __init__(self, name: str, annotated: Any, owner: type) -> None:
        self.basename, self.unalteredType = name, annotated
        kind, annotations = split_annotations(annotated)
        try:
            self.serializer = serializer(kind)
        except Exception as error:
            raise Exception(f"Unable to create serializer for {owner} member {name}") from error
        self.validators = [item for item in annotations if isinstance(item, Validator)]
        defaults = [item for item in annotations if isinstance(item, Default)]
        if name in vars(owner):
            self.default = Default(vars(owner)[name])
        else:
            self.default = defaults[0] if defaults else Default(self.serializer.initial)
        unused = [item for item in annotations if not isinstance(item, (Validator, Default))]
        if unused:
            logging.warning(f"Unused annotations: {unused}")

    def write(self, node: Any, value: Any) -> None:
        self.serializer.check(value)
        for validator in self.validators:
            validator.validate(value)
        self.serializer.write(node, self.basename, value)

    def read(self, node: Any) -> Any:
        if not self.serializer.has(node, self.basename):
            self.write(node, self.default.value)
        return self.serializer.read(node, self.basename)


class _Cached:
    """The value of one parameter on one node, read anew when the node is modified."""

    def __init__(self, parameter: _Parameter, node: Any) -> None:
        self.parameter, self.node, self.writing = parameter, node, False
        if not parameter.serializer.has(node, parameter.basename):
            parameter.write(node, parameter.default.value)
        self.value = parameter.read(node)
        owner = weakref.ref(self)

        def refresh(caller: Any, event: str) -> None:
            cached = owner()
            if cached is not None and not cached.writing:
                cached.value = cached.parameter.read(cached.node)

        self.tag = node.AddObserver(vtkCommand.ModifiedEvent, refresh)

    def __del__(self) -> None:
        if hasattr(self, "tag"):
            self.node.RemoveObserver(self.tag)

    def write(self, value: Any) -> None:
        self.writing = True
        try:
            with slicer.util.NodeModify(self.node):
                self.parameter.write(self.node, value)
                self.value = self.parameter.read(self.node)
        finally:
            self.writing = False


class _Methods:
    """What every wrapper class gets; its names cannot be parameters."""

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._connected: dict[int, tuple[dict, int]] = {}
        self._tags = 0
        self._updating = False
        self._values = {name: _Cached(item, parameterNode) for name, item in self.allParameters.items()}

    def default(self, name: str) -> Default:
        return self._known(name).default

    def isCached(self, name: str) -> bool:
        self._known(name)
        return True

    @classmethod
    def dataType(cls, name: str) -> Any:
        if name not in cls.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(cls.allParameters)}")
        return cls.allParameters[name].unalteredType

    def getValue(self, name: str) -> Any:
        self._known(name)
        return self._values[name].value

    def setValue(self, name: str, value: Any) -> None:
        self._known(name)
        self._values[name].write(value)

    def connectGui(self, gui: Any) -> int:
        """Ties every widget with a SlicerParameterName to its parameter; the tag is for :meth:`disconnectGui`."""
        import qt

        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else list(vars(gui).values())
        return self.connectParametersToGui(
            {item.property(PROPERTY): item for item in widgets if item.property(PROPERTY)}
        )

    def connectParametersToGui(self, mapping: dict) -> int:
        from .parameter_gui import connector

        for name in mapping:
            self._known(name)
        connectors = {name: connector(widget, self.dataType(name)) for name, widget in mapping.items()}
        for name, item in connectors.items():
            item.write(self.getValue(name))
            item.on_changed(lambda name=name, item=item: self._from_gui(name, item))
        observer = self.AddObserver(vtkCommand.ModifiedEvent, lambda caller, event: self._to_gui())
        self._tags += 1
        self._connected[self._tags] = (connectors, observer)
        return self._tags

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._connected.pop(tag, ({}, None))
        for item in connectors.values():
            item.on_changed(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def _known(self, name: str) -> _Parameter:
        self.dataType(name)
        return self.allParameters[name]

    def _from_gui(self, name: str, item: Any) -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                self.setValue(name, item.read())

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _ in list(self._connected.values()):
                    for name, item in connectors.items():
                        item.write(self.getValue(name))
        finally:
            self._updating = False


def _as_property(name: str) -> property:
    return property(lambda self: self._values[name].value, lambda self, value: self._values[name].write(value))


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """The class decorator, with or without brackets."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    parameters = {name: _Parameter(name, hint, classtype) for name, hint in hints.items()}
    for name in parameters:
        setattr(classtype, name, _as_property(name))
    for name, method in vars(_Methods).items():
        if name == "__init__" or not name.startswith("__"):
            if name != "__init__" and hasattr(classtype, name):
                raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
            setattr(classtype, name, method)
    classtype.allParameters = parameters  # type: ignore[attr-defined]
    classtype._is_parameter_node_wrapper = True  # type: ignore[attr-defined]
    return classtype


def findChildWidgetForParameter(widget: Any, name: str) -> Any:
    """The widget that shows the parameter, or None."""
    import qt

    return next((item for item in widget.findChildren(qt.QWidget) if item.property(PROPERTY) == name), None)


def module() -> types.ModuleType:
    """The module as ``slicer.parameterNodeWrapper``."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    made.parameterNodeWrapper = parameterNodeWrapper  # type: ignore[attr-defined]
    made.findChildWidgetForParameter = findChildWidgetForParameter  # type: ignore[attr-defined]
    made.isParameterNodeWrapper = lambda item: getattr(item, "_is_parameter_node_wrapper", False)  # type: ignore[attr-defined]
    made.SlicerParameterNamePropertyName = PROPERTY  # type: ignore[attr-defined]
    for name in (
        "Choice",
        "Decimals",
        "Default",
        "Exclude",
        "Maximum",
        "Minimum",
        "SingleStep",
        "Validator",
        "WithinRange",
    ):
        setattr(made, name, getattr(parameter_types, name))
    return made
