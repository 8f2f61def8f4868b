"""Tells the end of a job to an address of the caller's: signed, at least once, in good time."""
