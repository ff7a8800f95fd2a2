"""What the child says on standard output: one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing the child said, such as "progress" with its step and total.

    Nothing is taken for granted about the facts: a fact of another type reads as if it were not there.
    """

    name: str
    facts: Mapping[str, Any]

    def text(self, key: str) -> str:
        """The fact as words; empty where it is not there."""
        value = self.facts.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        """The fact as a finite number; None where it is none."""
        value = self.facts.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        return float(value)

    def count(self, key: str) -> int | None:
        """The fact as a whole number that is not negative; None where it is none."""
        value = self.number(key)
        return int(value) if value is not None and value >= 0 and value == int(value) else None

    def numbers(self, key: str, length: int) -> tuple[float, ...] | None:
        """The fact as so many finite numbers; None where it is something else."""
        values = self.facts.get(key)
        if not isinstance(values, list) or len(values) != length:
            return None
        found = [Event("", {"value": value}).number("value") for value in values]
        return None if None in found else tuple(value for value in found if value is not None)


def parse(line: str) -> Event | None:
    """The event in ``line``; None for anything that is none, such as what a library printed."""
    if not line.startswith("{"):
        return None
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return None
    name = facts.pop("event", None) if isinstance(facts, dict) else None
    return Event(name, facts) if isinstance(name, str) else None
