"""A real OpenStack for tests, see lab.py; what is in `services` runs in another environment."""
