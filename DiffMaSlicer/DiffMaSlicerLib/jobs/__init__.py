"""Work that takes a while, polled in small pieces so that the window never waits."""
