"""Values between Python and Qt, as PythonQt converts them: enums are ints, lists come back as tuples."""

import enum
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore


class EnumValue(int):
    """A Qt enum value or combination of flags: an int that still knows which Qt enum it came from."""

    member: enum.Enum

    def __new__(cls, member: enum.Enum) -> "EnumValue":
        self = super().__new__(cls, int(member.value))
        self.member = member
        return self

    def _combined(self, other: int, operation: Callable[[Any, Any], Any]) -> int:
        same = isinstance(other, EnumValue) and type(other.member) is type(self.member)
        if same and isinstance(self.member, enum.Flag):
            return EnumValue(operation(self.member, other.member))
        return operation(int(self), int(other))

    def __or__(self, other: int) -> int:
        return self._combined(other, lambda a, b: a | b)

    def __and__(self, other: int) -> int:
        return self._combined(other, lambda a, b: a & b)

    def __invert__(self) -> int:
        return EnumValue(~self.member) if isinstance(self.member, enum.Flag) else ~int(self)

    __ror__ = __or__
    __rand__ = __and__
    __hash__ = int.__hash__

    def __repr__(self) -> str:
        return f"{self.member.name} ({int(self)})"


def to_qt(value: Any) -> Any:
    """The PySide6 value for what a module passes: wrappers opened, enum values restored."""
    from .pythonqt import ClassWrapper, Wrapper

    if isinstance(value, Wrapper):
        return value.qt_object()
    if isinstance(value, ClassWrapper):
        return value.qt_class
    if isinstance(value, EnumValue):
        return value.member
    if isinstance(value, (list, tuple)):
        return [to_qt(item) for item in value]
    return value


def to_python(value: Any) -> Any:
    """What PythonQt would hand to a module for a PySide6 value."""
    from .pythonqt import Wrapper, is_qt_class, wrap

    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, (list, tuple)):
        return tuple(to_python(item) for item in value)
    if isinstance(value, Wrapper):
        return value
    return wrap(value) if is_qt_class(type(value)) else value


NUMBERS = (QtCore.QMetaType.Type.Int.value, QtCore.QMetaType.Type.Double.value, QtCore.QMetaType.Type.UInt.value)
TEXT = QtCore.QMetaType.Type.QString.value


def accepts(meta_property: QtCore.QMetaProperty, value: Any) -> bool:
    """Whether PythonQt would convert the value to the property's type."""
    if value is None:
        return False
    if meta_property.userType() in NUMBERS:
        return isinstance(value, (int, float))
    if meta_property.userType() == TEXT:
        return isinstance(value, str)
    return True
