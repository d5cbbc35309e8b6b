"""Drivers: one per kind of storage. They report facts; the core makes calls idempotent."""
