"""`volplug check-config`: tells all mistakes of flags, environment and file, or what is in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volplug.backends import BuiltBackends, doubt_of, profile_mistakes, try_backends
from volplug.config import Settings, read_settings
from volplug.drivers.base import HasRequirements
from volplug.errors import ConfigurationError
from volplug.variables import ignored_variables


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the configuration has found.

    Attributes:
        mistakes: What keeps volplug from serving.
        warnings: What volplug serves with, although something else may be meant.
        lines: What is in force.
    """

    mistakes: tuple[ConfigurationError, ...]
    warnings: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def report(self) -> str:
        """Return all of it as text."""
        return "\n".join(
            [
                *(f"wrong: {_whole(mistake)}" for mistake in self.mistakes),
                *(f"warning: {text}" for text in self.warnings),
                *self.lines,
            ]
        )


def check(flags: Mapping[str, str], of_flags: Sequence[ConfigurationError] = ()) -> Checked:
    """Check the whole configuration, without a call to any backend and without any change.

    Args:
        flags: Setting to text, as given on the command line.
        of_flags: The mistakes in other flags.
    """
    read = read_settings(flags)
    built = try_backends(read.settings)
    infos = built.infos if read.has_all_backends else []
    mistakes = (
        *of_flags,
        *read.mistakes,
        *built.mistakes,
        *profile_mistakes(read.settings, infos),
        *_unmet(built),
    )
    lines = () if mistakes else _in_force(read.settings, built)
    return Checked(mistakes, _warnings(read.settings), lines)


def _whole(mistake: ConfigurationError) -> str:
    """Return the text without the limit of those that Docker shows."""
    return f"{mistake.cause}. {mistake.remedy}".rstrip(". ")


def _unmet(built: BuiltBackends) -> Sequence[ConfigurationError]:
    return [
        ConfigurationError(f"backend {name}: {error.cause}", error.remedy)
        for name, driver in built.drivers.items()
        if isinstance(driver, HasRequirements)
        for error in driver.unmet_requirements()
    ]


def _warnings(settings: Settings) -> tuple[str, ...]:
    ignored = (
        f"unknown variable {name} is ignored{f', did you mean {near}?' if near else ''}"
        for name, near in ignored_variables(Settings.model_fields).items()
    )
    doubt = doubt_of(settings)
    return (*ignored, *([_whole(doubt[0])] if doubt else []))


def _in_force(settings: Settings, built: BuiltBackends) -> tuple[str, ...]:
    file = settings.file if Path(settings.file).exists() else "none"
    backends = (
        f"backend {name}: driver {driver.info.driver}{', the default' * (name == settings.default_backend)}"
        for name, driver in built.drivers.items()
    )
    profiles = (f"profile {name}" for name in settings.profiles)
    return (f"configuration file: {file}", *backends, *profiles, "no mistakes found")
