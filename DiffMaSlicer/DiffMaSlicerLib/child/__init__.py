"""The child process that runs the model: how it is started, heard and ended. No Qt and no MRML in here."""
