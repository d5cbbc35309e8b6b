"""This machine: programs, devices, filesystems, mounts. Knows nothing of volumes' names at Docker."""
