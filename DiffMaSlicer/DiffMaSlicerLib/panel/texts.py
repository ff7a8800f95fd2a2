"""Durations, sizes and names as people read them."""

from slicer.i18n import tr as _


def duration(seconds):
    """``4 s``, ``2 min 05 s`` or ``1 h 10 min``; seconds may be None."""
    if seconds is None:
        return ""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return _("{seconds} s").format(seconds=seconds)
    if seconds < 3600:
        return _("{minutes} min {seconds:02d} s").format(minutes=seconds // 60, seconds=seconds % 60)
    return _("{hours} h {minutes:02d} min").format(hours=seconds // 3600, minutes=seconds % 3600 // 60)


def memory(count):
    """Bytes as ``640 MB`` or ``7.8 GB``."""
    if count >= 1e9:
        return _("{amount:.1f} GB").format(amount=count / 1e9)
    return _("{amount:.0f} MB").format(amount=count / 1e6)


def progress(job):
    """What a job does at the moment, such as ``slice 12 of 37, 40 s to go``."""
    parts = [part for part in (job.stage, job.detail) if part]
    if job.eta is not None:
        parts.append(_("{time} to go").format(time=duration(job.eta)))
    elif not parts:
        parts.append(job.title)
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def failure(error):
    """A job's error as one text: the cause, and what to do about it."""
    message = error.message.strip()
    message = message[:1].upper() + message[1:]
    if not message.endswith((".", "!", "?")):
        message += "."
    return f"{message} {error.remedy}".strip()
