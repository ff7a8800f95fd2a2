"""Functions in, commands out: a command's options, its help (the function's docstring), and what it answers."""

from __future__ import annotations

import argparse
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from DiffMaCore.configuring import nearest

Run = Callable[[argparse.Namespace], int]
_Run = TypeVar("_Run", bound=Run)


class Option:
    """What ``ArgumentParser.add_argument`` takes, for any number of parsers."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names, self.settings = names, settings


@dataclass(frozen=True)
class Command:
    """A function that takes the parsed options and returns the exit status; ``page`` is its help."""

    run: Run
    page: str
    options: tuple[Option, ...]
    fixed: dict[str, Any]


COMMANDS: dict[str, Command] = {}
"""By their words, such as "models list", in the order of their modules' import."""

GROUPS: dict[str, str] = {}
"""Help pages of first words that several commands share."""


COMMON = (
    Option(
        "--progress",
        choices=("bar", "json"),
        default="bar",
        help="bar (default), or JSON lines on standard output: hello, stage, progress, note, warning, what is finished,"
        " result, error",
    ),
    Option("--verbose", action="store_true", help="log what is chosen and why, and show tracebacks"),
    Option(
        "--parent-watchdog",
        action="store_true",
        help="end this command and its children when standard input ends (for the program that starts it)",
    ),
)
"""What every command takes."""


def command(
    name: str, *options: Option, page: str = "", into: dict[str, Command] = COMMANDS, **fixed: Any
) -> Callable[[_Run], _Run]:
    """Make a function the command ``name``; ``fixed`` are options that are not asked for."""

    def register(run: _Run) -> _Run:
        into[name] = Command(run, page or inspect.getdoc(run) or "", options, fixed)
        return run

    return register


class _Parser(argparse.ArgumentParser):
    """Of a command or a group of them; a misspelt option is told the nearest one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known = self._option_string_actions
        words = args[: args.index("--")] if "--" in args else args
        for name in (word.partition("=")[0] for word in words if word.startswith("--")):
            if self.get_default("run") and not any(option.startswith(name) for option in known):
                near = nearest(name, known)
                self.error(f"unrecognized arguments: {name}" + (f"; did you mean {near}?" if near else ""))
        return super().parse_known_args(args, namespace)


def add_commands(parser: argparse.ArgumentParser, commands: dict[str, Command]) -> None:
    """All ``commands``, in a group where the name has two words."""
    above = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)}
    for name, each in commands.items():
        group, _, word = name.rpartition(" ")
        if group not in above:
            made = above[""].add_parser(group, **help_page(GROUPS[group]))
            above[group] = made.add_subparsers(title="actions", metavar="WHAT", required=True)
        child = above[group].add_parser(word, **help_page(each.page))
        add_options(child, *each.options, *COMMON)
        child.set_defaults(run=each.run, **each.fixed)


def help_page(page: str) -> dict[str, Any]:
    """argparse's texts of a page: its first line names the command, its first paragraph stands before the options."""
    description, _, epilog = page.partition("\n\n")
    return {
        "help": description.partition("\n")[0].rstrip("."),
        "description": description,
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def add_options(parser: argparse.ArgumentParser, *options: Option) -> None:
    for option in options:
        parser.add_argument(*option.names, **option.settings)


def answer(args: argparse.Namespace, facts: Any, text: str) -> None:
    """What a command answers: a result event for a program, JSON where ``--json`` asks for it, or ``text``."""
    args.reporter.close()
    if args.progress == "json":
        args.reporter.result(**(facts if isinstance(facts, dict) else {"rows": facts}))
    elif text and rank() == 0:
        print(json.dumps(facts, indent=2) if getattr(args, "json", None) is True else text)


def rank(word: str = "RANK") -> int:
    """Number of this process among those that `accelerate launch` or torchrun started together; 0 where it is alone.

    ``word``: LOCAL_RANK for its number on this machine.
    """
    value = os.environ.get(word, "")
    return int(value) if value.isdigit() else 0


def silence_other_bars() -> None:
    """No progress bars of diffusers' among ours, and no warning of its own doing."""
    from diffusers.utils import logging

    logging.disable_progress_bar()
    # an AutoencoderTiny is saved with a setting that it does not know when it is loaded
    own = "'block_out_channels'", "were passed to AutoencoderTiny"
    logger = logging.get_logger("diffusers.configuration_utils")
    logger.addFilter(lambda record: not all(words in record.getMessage() for words in own))
