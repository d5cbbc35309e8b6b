"""The services' side of the faults of a lab (see tests/lab/openstack/faults.py)."""

import os
import time

_POLL_S = 0.05


def strike(directory: str, operation: str, error: type[Exception]) -> None:
    """Delay or fail an operation if the test has ordered it.

    Args:
        directory: One file for each ordered fault, with its words: "sleep SECONDS", "hold" for as long as the
            file exists, "fail", "once".
        operation: The file's name.
        error: What is raised, with a text.
    """
    path = os.path.join(directory, operation)
    try:
        with open(path, encoding="ascii") as file:
            words = file.read().split()
    except FileNotFoundError:
        return
    while "hold" in words and os.path.exists(path):
        time.sleep(_POLL_S)
    if "once" in words and os.path.exists(path):
        os.unlink(path)
    if "sleep" in words:
        time.sleep(float(words[words.index("sleep") + 1]))
    if "fail" in words:
        raise error(f"ordered by the test: {operation} fails")
