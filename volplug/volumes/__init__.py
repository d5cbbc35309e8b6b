"""The core: what a volume should be, what it is, and the next step between the two."""
