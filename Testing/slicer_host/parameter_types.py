"""How a parameter's value is checked, written to and read from a vtkMRMLScriptedModuleNode."""

import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer


class Validator:
    """An annotation that refuses values."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


@dataclass
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    choices: list

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


@dataclass
class Exclude(Validator):
    excludedValues: list

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, which is excluded")


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


class Default:
    """The default value, fixed or made anew each time."""

    def __init__(self, value: Any = None, *, generator: Callable | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


def split_annotations(kind: Any) -> tuple[Any, list]:
    """``Annotated[int, a, b]`` as ``(int, [a, b])``, a plain type as ``(type, [])``."""
    if typing.get_origin(kind) is typing.Annotated:
        first, *rest = typing.get_args(kind)
        return first, rest
    return kind, []


def is_node_type(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


@dataclass
class Text:
    """A value kept as the text of one parameter."""

    kind: type
    accepts: tuple[type, ...]
    to_text: Callable[[Any], str]
    from_text: Callable[[str], Any]
    initial: Any

    def check(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")
        if not isinstance(value, self.accepts):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")

    def has(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self.to_text(value))

    def read(self, node: Any, name: str) -> Any:
        return self.from_text(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


@dataclass
class NodeReference:
    """An MRML node, kept as a node reference; None is a value."""

    kind: type
    initial: Any = None

    def check(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")

    def has(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")  # tells "none chosen" from "never written"
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


class Items:
    """A list, an item a parameter; the list that is read writes itself back when it is changed in place."""

    initial: typing.ClassVar[list] = []

    def __init__(self, item: Text) -> None:
        self.item = item

    def check(self, value: Any) -> None:
        for entry in value:
            self.item.check(entry)

    def has(self, node: Any, name: str) -> bool:
        return node.HasParameter(f"{name}.len")

    def write(self, node: Any, name: str, value: Any) -> None:
        before = int(node.GetParameter(f"{name}.len") or 0)
        with slicer.util.NodeModify(node):
            for index, entry in enumerate(value):
                self.item.write(node, f"{name}.{index}", entry)
            node.SetParameter(f"{name}.len", str(len(value)))
            for index in range(len(value), before):
                self.item.remove(node, f"{name}.{index}")

    def read(self, node: Any, name: str) -> list:
        values = [
            self.item.read(node, f"{name}.{index}") for index in range(int(node.GetParameter(f"{name}.len") or 0))
        ]
        return _WrittenBack(values, lambda changed: self.write(node, name, changed))


class _WrittenBack(list):
    def __init__(self, values: list, write: Callable[[list], None]) -> None:
        super().__init__(values)
        self._write = write

    def _then_write(name: str) -> Callable:  # type: ignore[misc]
        def change(self: Any, *arguments: Any, **keywords: Any) -> Any:
            result = getattr(list, name)(self, *arguments, **keywords)
            self._write(list(self))
            return self if name == "__iadd__" else result

        return change

    append = _then_write("append")
    extend = _then_write("extend")
    insert = _then_write("insert")
    remove = _then_write("remove")
    pop = _then_write("pop")
    clear = _then_write("clear")
    __setitem__ = _then_write("__setitem__")
    __delitem__ = _then_write("__delitem__")
    __iadd__ = _then_write("__iadd__")


def serializer(kind: Any) -> Any:
    """What writes and reads a type; an Exception for a type that the stand-in does not know."""
    if kind is int:
        return Text(int, (int,), str, int, 0)
    if kind is float:
        return Text(float, (int, float), str, float, 0)
    if kind is str:
        return Text(str, (str,), str, str, "")
    if kind is bool:
        return Text(bool, (bool,), lambda value: "True" if value else "False", lambda text: text == "True", False)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return Text(kind, (kind,), str, kind, kind())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return Text(kind, (kind,), lambda value: value.name, lambda text: kind[text], next(iter(kind)))
    if is_node_type(kind):
        return NodeReference(kind)
    if typing.get_origin(kind) is list:
        return Items(serializer(typing.get_args(kind)[0]))
    raise Exception(f"Unable to create serializer for type: {kind}")
