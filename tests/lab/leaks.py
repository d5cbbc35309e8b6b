"""Secrets that a log must not have."""

from collections.abc import Iterable
from pathlib import Path


def check_logs(logs: Iterable[Path], secrets: Iterable[str]) -> None:
    """Check that none of the secrets is in any of the logs, which have to be there."""
    known = [secret for secret in secrets if secret]
    for log in logs:
        text = log.read_text(errors="replace")
        # The secret itself is not shown: this text may be published.
        assert not any(secret in text for secret in known), f"{log} has a secret"
