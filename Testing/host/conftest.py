"""The tests of the stand-in for Slicer."""

from importlib.util import find_spec

missing = [name for name in ("slicer", "PySide6") if find_spec(name) is None]

if missing:
    collect_ignore_glob = ["test_*.py"]
else:
    from Testing.slicer_host.fixtures import slicer_host  # noqa: F401
    from Testing.slicer_host.host import install

    install()


def pytest_report_header() -> str:
    """Says why the stand-in's tests are not run where they cannot be."""
    return f"Slicer stand-in's tests not collected: not installed: {', '.join(missing)}" if missing else ""
