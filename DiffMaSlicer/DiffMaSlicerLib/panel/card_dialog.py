"""The window with a model's card."""

from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.panel.dialog import Dialog


class CardDialog(Dialog):
    """Shows a card (Markdown) of a model."""

    def __init__(self, panel):
        super().__init__(panel, "ModelCard.ui")
        self._job: Any = None

    def prepare(self):
        """Connect the button."""
        self.ui.cardCloseButton.connect("clicked()", self.hide)

    def load(self, name):
        """Ask the child for the card of an installed model and show it when it comes."""
        self.show(name, _("Reading the model card..."))
        with self.panel.messages.reported():
            self._job = self.panel.logic.modelCard(name)
            self._job.add_listener(self._onNews)

    def show(self, title, markdown):
        """Show a text."""
        self.open()
        self._window.windowTitle = _("Model card: {title}").format(title=title)
        self.ui.cardText.setMarkdown(markdown)

    def _onNews(self, job, what):
        if what != "done" or job is not self._job or self._window is None:
            return
        if job.error is not None:
            self.ui.cardText.setMarkdown(str(job.error))
        elif job.result is not None:
            self.ui.cardText.setMarkdown(withoutFrontMatter(job.result))


def withoutFrontMatter(card):
    """A card without the lines for machines at its top."""
    if card.startswith("---"):
        return card.split("---", 2)[-1].lstrip()
    return card
