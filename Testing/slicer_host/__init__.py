"""A stand-in for 3D Slicer's window: ``qt``, ``ctk`` and ``slicer`` over PySide6 and slicer-core.

Real Qt widgets on a virtual screen, real MRML, the real ``slicer.util``. Python sees them as PythonQt shows them; what
Slicer does not have is an AttributeError. For tests only: use the fixture ``slicer_host`` (see ``fixtures.py``).
"""
