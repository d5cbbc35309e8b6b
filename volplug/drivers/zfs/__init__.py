"""Datasets of a ZFS pool of this host."""
