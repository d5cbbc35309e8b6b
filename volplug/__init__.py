"""volplug: a Docker volume plugin whose volumes follow their containers."""

__version__ = "0.1.0"
