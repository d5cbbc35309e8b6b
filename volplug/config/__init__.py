"""Settings of this host: what they are, where they are read from, and what is wrong with them."""

from volplug.config.reading import flag_of, load_settings, read_settings, variable_of
from volplug.config.settings import DEFAULT_CONFIG, TABLES, Settings, default_text

__all__ = [
    "DEFAULT_CONFIG",
    "TABLES",
    "Settings",
    "default_text",
    "flag_of",
    "load_settings",
    "read_settings",
    "variable_of",
]
