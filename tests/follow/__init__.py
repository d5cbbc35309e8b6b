"""Volumes follow containers from host to host, through whatever happens to the hosts."""
