"""Signals as PythonQt connects them: by text or by attribute, extra arguments cut, errors in slots only reported."""

import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

from .values import to_python, to_qt

SlotError = tuple[str, BaseException]
slot_errors: list[SlotError] = []  # what Slicer would only print; the fixture fails a test that leaves any
_connections: dict[int, list[tuple[str, Callable, Callable]]] = {}


def accepted_arguments(slot: Callable) -> int | None:
    """How many arguments PythonQt passes to the slot: all (None) unless it is a plain function or method."""
    function = slot.__func__ if isinstance(slot, types.MethodType) else slot
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & 0x04:
        return None
    return function.__code__.co_argcount - isinstance(slot, types.MethodType)


def trampoline(slot: Callable) -> Callable[..., None]:
    """A function that calls the slot as PythonQt does: never raising into Qt."""
    count = accepted_arguments(slot)

    def call(*arguments: Any) -> None:
        values = [to_python(argument) for argument in arguments]
        try:
            slot(*(values if count is None else values[:count]))
        except Exception as error:
            traceback.print_exc()
            slot_errors.append((getattr(slot, "__qualname__", repr(slot)), error))

    return call


def find_signal(sender: QtCore.QObject, signature: str) -> str | None:
    """The signature by which PySide6 knows a signal, or None where the object has no such signal."""
    for real, own in getattr(type(sender), "host_signals", {}).items():
        if _normalised(signature) == _normalised(real):
            return own
    meta = sender.metaObject()
    normalised = _normalised(signature)
    if "PyObject" in normalised or meta.indexOfSignal(normalised) < 0:
        return None
    return normalised


def _normalised(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def first_signal(sender: QtCore.QObject, name: str) -> str | None:
    """The signature that ``sender.name`` means: the first that the most derived class declares."""
    own = [real for real in getattr(type(sender), "host_signals", {}) if real.startswith(name + "(")]
    if own:
        return own[0]
    meta = sender.metaObject()
    while meta is not None:
        for index in range(meta.methodOffset(), meta.methodCount()):
            method = meta.method(index)
            if (
                method.methodType() == QtCore.QMetaMethod.MethodType.Signal
                and bytes(method.name().data()) == name.encode()
            ):
                return bytes(method.methodSignature().data()).decode()
        meta = meta.superClass()
    return None


def _bound(sender: QtCore.QObject, signature: str) -> Any:
    name = signature.split("(")[0]
    signal = getattr(sender, name)
    try:
        return signal[signature]
    except (KeyError, IndexError, TypeError):
        return signal


def connect(sender: QtCore.QObject, signature: str, slot: Callable) -> bool:
    """Connects; False with a printed warning where the signal does not exist."""
    found = find_signal(sender, signature)
    if found is None:
        _warn("connect", sender, signature)
        return False
    receiver = trampoline(slot)
    QtCore.QObject.connect(sender, QtCore.SIGNAL(found), receiver)
    _connections.setdefault(id(sender), []).append((found, slot, receiver))
    if len(_connections[id(sender)]) == 1:
        key = id(sender)
        sender.destroyed.connect(lambda: _connections.pop(key, None))
    return True


def disconnect(sender: QtCore.QObject, signature: str, slot: Callable | None = None) -> bool:
    """Takes away one connection to the slot, or every one of the signal; whether there was any."""
    found = find_signal(sender, signature)
    if found is None:
        _warn("disconnect", sender, signature)
        return False
    known = _connections.get(id(sender), [])
    matching = [item for item in known if item[0] == found and (slot is None or item[1] == slot)]
    for item in matching if slot is None else matching[:1]:
        QtCore.QObject.disconnect(sender, QtCore.SIGNAL(found), item[2])
        known.remove(item)
    return bool(matching)


def _warn(what: str, sender: QtCore.QObject, signature: str) -> None:
    class_name = sender.metaObject().className()
    print(f"PythonQt: QObject::{what}() signal '{signature}' does not exist on {class_name}", file=sys.stderr)


class SignalAttribute:
    """``button.clicked``: a signal bound to its object."""

    def __init__(self, sender: QtCore.QObject, signature: str) -> None:
        self._sender = sender
        self._signature = signature

    def connect(self, slot: Callable) -> bool:
        return connect(self._sender, self._signature, slot)

    def disconnect(self, slot: Callable | None = None) -> bool:
        return disconnect(self._sender, self._signature, slot)

    def emit(self, *arguments: Any) -> None:
        _bound(self._sender, find_signal(self._sender, self._signature)).emit(*map(to_qt, arguments))

    __call__ = emit


def disconnect_all(sender: QtCore.QObject) -> None:
    """Takes every connection away that went through :func:`connect`."""
    for found, _, receiver in _connections.pop(id(sender), []):
        QtCore.QObject.disconnect(sender, QtCore.SIGNAL(found), receiver)
