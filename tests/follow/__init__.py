"""Volumes follow containers from host to host, through all kinds of faults of the hosts."""
