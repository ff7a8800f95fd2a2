"""What stands behind the DiffMaSlicer module: parameters, logic, jobs in a child process, panel and review.

Nothing here imports torch or DiffMaCore: the model runs in a child process (``child``), which ``jobs`` follow
without ever blocking the window.
"""
