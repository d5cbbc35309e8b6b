"""Drivers: one per kind of storage. They report facts; only the core makes calls idempotent."""
