"""``slicer.i18n``: in English nothing is translated, but texts are checked to be literal strings."""


def tr(text: str) -> str:
    """The text in the user's language."""
    if not isinstance(text, str):
        raise TypeError(f"_() takes a text, not {text!r}.")
    return text


def translate(context: str, text: str) -> str:
    """The text of a named context in the user's language."""
    if not isinstance(context, str):
        raise TypeError(f"translate() takes a context and a text, not {context!r}.")
    return tr(text)
