"""Shared parts of cloud drivers: retries, polling, batching. They depend on no SDK and no cloud."""
