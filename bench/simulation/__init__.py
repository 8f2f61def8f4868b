"""A pool in simulated time: which order of jobs costs how much waiting."""
