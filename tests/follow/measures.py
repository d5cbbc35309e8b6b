"""How long moves took: told at the end of the report, never judged."""


class Measures:
    """What tests have measured."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def downtime(self, of: str, seconds: float) -> None:
        """Note how long a service was without its volume."""
        self._seconds[of] = seconds

    def lines(self) -> list[str]:
        """What was noted, for people."""
        return [f"{seconds:6.2f} s: {of}" for of, seconds in self._seconds.items()]
