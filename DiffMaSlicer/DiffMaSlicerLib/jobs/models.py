"""Model bundles: import, download, move, read the card; each a job of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.machine import CommandJob
from DiffMaSlicerLib.settings import Settings


def import_bundle(interpreter: Interpreter, path: str, name: str = "") -> CommandJob:
    """Install a bundle from a folder or zip on this machine."""
    arguments = ["models", "add", str(path), *(["--name", name] if name else [])]
    return CommandJob(interpreter, _("Import a model"), arguments)


def import_released(
    interpreter: Interpreter,
    denoiser: str,
    output: str,
    *,
    embedder: str = "",
    anatomy: str = "brain",
    vae: str = "",
    image_encoder: str = "",
) -> CommandJob:
    """Turn the paper authors' ``.pt`` files into an installed bundle called ``output``."""
    arguments = ["import-released", str(denoiser), "--anatomy", anatomy, "--output", str(output)]
    for option, value in {"--embedder": embedder, "--vae": vae, "--image-encoder": image_encoder}.items():
        arguments += [option, str(value)] if value else []
    return CommandJob(interpreter, _("Import the authors' weights"), arguments)


def download(interpreter: Interpreter, hub_id: str, name: str = "") -> CommandJob:
    """Install a bundle from a hub."""
    arguments = ["models", "download", hub_id, *(["--name", name] if name else [])]
    return CommandJob(interpreter, _("Download a model"), arguments)


class ModelCardJob(CommandJob):
    """Reads the card of a model; the result is its text, Markdown."""

    def __init__(self, interpreter: Interpreter, name: str) -> None:
        super().__init__(interpreter, _("Read the model card"), ["models", "show", name])

    def work(self) -> Generator[object, None, Any]:
        facts: dict[str, Any] = yield from super().work()
        return str(facts.get("card_text") or "")


class MoveModels(CommandJob):
    """Moves all models into another folder, which is remembered; the result is a dict with home."""

    def __init__(self, interpreter: Interpreter, folder: str, settings: Settings) -> None:
        super().__init__(interpreter, _("Move the models"), ["models", "move", str(folder)])
        self._settings = settings

    def work(self) -> Generator[object, None, Any]:
        facts: dict[str, Any] = yield from super().work()
        home = facts.get("home")
        if home:
            self._settings.models_folder = str(home)
        return facts
