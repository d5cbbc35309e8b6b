"""Volumes on ZFS, next to the commands of zfs alone."""
