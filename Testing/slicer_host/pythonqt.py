"""Python's view of Qt objects as PythonQt gives it, over PySide6 objects.

Qt properties are plain values, everything else a class offers is a method, and what it does not offer is an
AttributeError. Classes of the stand-in (CTK, qMRML, qSlicer) offer their Qt properties, their signals and the methods
marked :func:`invokable`, as real PythonQt sees only a class's meta-object.
"""

import enum
import functools
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

from . import signals
from .values import EnumValue, accepts, to_python, to_qt

PYSIDE_ONLY = {"toTuple", "toPython", "staticMetaObject", "toPyObject", "toUtf8Bytes", "toPyDate", "toPyDateTime"}
method_overrides: dict[tuple[str, str], Callable] = {}  # (class, method): replacement, called with the wrapper
_classes: dict[type, "ClassWrapper"] = {}
_instances: "weakref.WeakValueDictionary[int, Wrapper]" = weakref.WeakValueDictionary()


def invokable(method: Callable) -> Callable:
    """Marks a method of a stand-in class as one that the real class exports (slot or Q_INVOKABLE)."""
    method.invokable = True  # type: ignore[attr-defined]
    return method


def is_qt_class(cls: type) -> bool:
    """Whether objects of the class are Qt's (or the stand-in's) and so are wrapped."""
    return issubclass(cls, shiboken6.Shiboken.Object)


def _is_qt_own(cls: type) -> bool:
    return cls.__module__.startswith("PySide6.")


def qt_property(qt_object: QtCore.QObject, name: str) -> QtCore.QMetaProperty | None:
    """The object's Qt property of that name (``name`` itself means ``objectName``), or None."""
    if name == "singleShot" and isinstance(qt_object, QtCore.QTimer):
        return None
    meta = qt_object.metaObject()
    index = meta.indexOfProperty(name)
    if index < 0 and name == "name":
        index = meta.indexOfProperty("objectName")
    return meta.property(index) if index >= 0 else None


@functools.cache
def _enum_member(cls: type, name: str) -> EnumValue | None:
    """An unscoped enum value of a Qt class: ``QMessageBox.Ok``; a Python keyword has ``_`` behind it."""
    plain = name[:-1] if name in ("None_", "True_", "False_") else name
    for base in cls.__mro__:
        for item in vars(base).values():
            if isinstance(item, enum.EnumMeta) and plain in item.__members__:
                return EnumValue(item.__members__[plain])
    return None


class EnumClass:
    """``QMessageBox.StandardButton``: turns an int into the enum's value."""

    def __init__(self, cls: enum.EnumMeta) -> None:
        self._cls = cls

    def __call__(self, value: int) -> EnumValue:
        return EnumValue(self._cls(int(value)))


def _offered(cls: type, name: str) -> Any:
    """The raw attribute of a PySide6 class that PythonQt would offer under the name, or None."""
    if name.startswith("_") or name in PYSIDE_ONLY:
        return None
    for base in cls.__mro__:
        if name in vars(base) and base is not object:
            attribute = vars(base)[name]
            if _is_qt_own(base):
                return None if isinstance(attribute, (QtCore.Signal, property)) else getattr(cls, name)
            function = attribute.__func__ if isinstance(attribute, staticmethod) else attribute
            if getattr(function, "invokable", False):
                return getattr(cls, name)
    return None


class ClassWrapper(type):
    """A Qt class as a module sees it: callable, with static methods and unscoped enum values."""

    qt_class: type

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{cls.__name__}() takes no keyword arguments in PythonQt.")
        return wrap(cls.qt_class(*map(to_qt, arguments)))

    def __getattr__(cls, name: str) -> Any:
        override = _override(cls.qt_class, name)
        if override is not None:
            return override
        value = _enum_member(cls.qt_class, name)
        if value is not None:
            return value
        attribute = _offered(cls.qt_class, name) or _keyword_method(cls.qt_class, name)
        if isinstance(attribute, enum.EnumMeta):
            return EnumClass(attribute)
        if isinstance(attribute, type):
            return class_wrapper(attribute)
        if attribute is None:
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")
        return _converted(attribute)

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"'{name}' cannot be set on the Qt class {cls.__name__}.")


def _override(cls: type, name: str) -> Callable | None:
    plain = name[:-1] if name.endswith("_") else name
    for base in cls.__mro__:
        if (base.__name__, plain) in method_overrides:
            return method_overrides[base.__name__, plain]
    return None


def _keyword_method(cls: type, name: str) -> Any:
    """``exec_`` finds ``exec``, as every name with one ``_`` behind it does."""
    if len(name) < 3 or not name.endswith("_") or name.endswith("__"):
        return None
    return _offered(cls, name[:-1])


def _converted(function: Callable) -> Callable:
    @functools.wraps(function, assigned=("__name__", "__doc__"), updated=())
    def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{function.__name__}() takes no keyword arguments in PythonQt.")
        return to_python(function(*map(to_qt, arguments)))

    return call


class Wrapper(metaclass=ClassWrapper):
    """A Qt object as a module sees it."""

    __slots__ = ("__weakref__", "_qt")
    qt_class: type = object

    def __init_subclass__(cls) -> None:
        if "qt_class" not in vars(cls):
            raise TypeError("The stand-in refuses Python subclasses of Qt classes.")

    def qt_object(self) -> Any:
        """The PySide6 object behind this wrapper (for the stand-in itself and for tests)."""
        return self._qt

    def className(self) -> str:
        return type(self).__name__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        qt_object = self._alive(f"read '{name}' of")
        cls = type(qt_object)
        if isinstance(qt_object, QtCore.QObject):
            meta_property = qt_property(qt_object, name)
            if meta_property is not None:
                return to_python(qt_object.property(meta_property.name()))
        override = _override(cls, name)
        if override is not None:
            return functools.partial(override, self)
        attribute = _offered(cls, name) or _keyword_method(cls, name)
        if isinstance(attribute, (enum.EnumMeta, type)):
            return getattr(type(self), name)
        if attribute is not None:
            plain = name if hasattr(qt_object, name) else name[:-1]
            return _converted(getattr(qt_object, plain))
        value = _enum_member(cls, name)
        if value is not None:
            return value
        if isinstance(qt_object, QtCore.QObject):
            signature = signals.first_signal(qt_object, name)
            if signature is not None:
                return signals.SignalAttribute(qt_object, signature)
            if name in map(_text, qt_object.dynamicPropertyNames()):
                return to_python(qt_object.property(name))
            for child in qt_object.children():
                if child.objectName() == name:
                    return wrap(child)
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        qt_object = self._alive(f"set '{name}' of")
        class_name = type(self).__name__
        if not isinstance(qt_object, QtCore.QObject):
            raise AttributeError(f"'{name}' does not exist on {class_name}")
        meta_property = qt_property(qt_object, name)
        if meta_property is None:
            if name in map(_text, qt_object.dynamicPropertyNames()):
                qt_object.setProperty(name, to_qt(value))
                return
            raise AttributeError(
                f"'{name}' does not exist on {class_name} and creating new attributes on C++ objects is not allowed"
            )
        if not meta_property.isWritable():
            raise AttributeError(f"Property '{name}' of {class_name} object is not writable")
        if not accepts(meta_property, value) or not qt_object.setProperty(meta_property.name(), to_qt(value)):
            raise AttributeError(
                f"Property '{name}' of type '{meta_property.typeName()}' does not accept an object of type "
                f"{type(value).__name__} ({value!r})"
            )

    def _alive(self, doing: str) -> Any:
        if not shiboken6.isValid(self._qt):
            raise ValueError(f"Trying to {doing} a destroyed {type(self).__name__} object")
        return self._qt

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._qt)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapper) and (self._qt is other._qt or self._equal_values(other))

    def _equal_values(self, other: "Wrapper") -> bool:
        return not isinstance(self._qt, QtCore.QObject) and bool(self._qt == other._qt)

    def __hash__(self) -> int:
        return id(self._qt)

    def __repr__(self) -> str:
        return f"{type(self).__name__} (stand-in, {self._qt!r})"


class QObjectMethods:
    """What PythonQt itself adds to every QObject."""

    __slots__ = ()

    def className(self) -> str:
        return self._alive("ask the class of").metaObject().className()

    def inherits(self, name: str) -> bool:
        return self._alive("ask the class of").inherits(name)

    def connect(self, signal: str, slot: Callable) -> bool:
        if not callable(slot):
            raise ValueError(f"connect('{signal}') needs something that can be called, not {slot!r}.")
        return signals.connect(self._alive("connect"), signal, slot)

    def disconnect(self, signal: str, slot: Callable | None = None) -> bool:
        return signals.disconnect(self._alive("disconnect"), signal, slot)

    def children(self) -> tuple:
        return to_python(self._alive("ask the children of").children())

    def property(self, name: str) -> Any:
        return to_python(self._alive("ask a property of").property(name))

    def setProperty(self, name: str, value: Any) -> bool:
        return self._alive("set a property of").setProperty(name, to_qt(value))

    def findChildren(self, kind: Any, name: str | None = None) -> tuple:
        wanted = kind if isinstance(kind, str) else type(kind).__name__ if isinstance(kind, Wrapper) else kind.__name__
        found: list[QtCore.QObject] = []

        def search(parent: QtCore.QObject) -> None:
            for child in parent.children():
                if child.inherits(wanted) and name in (None, child.objectName()):
                    found.append(child)
                search(child)

        search(self._alive("search the children of"))
        return to_python(found)

    def findChild(self, kind: Any, name: str | None = None) -> Any:
        found = self.findChildren(kind, name)
        return found[0] if found else None

    def delete(self) -> None:
        shiboken6.delete(self._alive("delete"))


def _text(name: QtCore.QByteArray) -> str:
    return bytes(name.data()).decode()


def class_wrapper(cls: type) -> ClassWrapper:
    """The one wrapper of a PySide6 (or stand-in) class; its bases follow the class's own."""
    if cls not in _classes:
        bases = tuple(
            class_wrapper(base) for base in cls.__bases__ if is_qt_class(base) and base.__module__ != "Shiboken"
        )
        bases = tuple(base for base in bases if base.qt_class is not shiboken6.Shiboken.Object) or (Wrapper,)
        body: dict[str, Any] = {"__slots__": (), "qt_class": cls}
        if cls is QtCore.QObject:
            body |= {name: item for name, item in vars(QObjectMethods).items() if not name.startswith("__")}
        _classes[cls] = ClassWrapper(cls.__name__, bases, body)
    return _classes[cls]


def wrap(qt_object: Any) -> Any:
    """The wrapper of a PySide6 object: the same one for the same object as long as anybody holds it."""
    if qt_object is None:
        return None
    key = id(qt_object)
    known = _instances.get(key)
    if known is not None and known._qt is qt_object:
        return known
    cls = class_wrapper(type(qt_object))
    wrapper = object.__new__(cls)
    object.__setattr__(wrapper, "_qt", qt_object)
    _instances[key] = wrapper
    return wrapper
