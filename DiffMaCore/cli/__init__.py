"""The ``diffma`` command line."""
