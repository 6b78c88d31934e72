"""One frozen settings object; the only reader of the environment.

A value comes from the first of these that has one: a command-line flag, the environment (``RADIR_`` + upper-case
name), a TOML file (``--config``, else ``radir.toml`` in the home folder), the default. A wrong value stops the start
with a message that names it.
"""

from .addresses import check_user_info
from .checks import LOOPBACK, hours_of
from .environment import ENV_PREFIX, to_environment
from .flags import add_flags, add_help_settings
from .loading import load
from .parser import Parser, day, moment
from .settings import CHARACTER_SETS, DAY_S, DEFAULT_HOME, Settings

__all__ = [
    "CHARACTER_SETS",
    "DAY_S",
    "DEFAULT_HOME",
    "ENV_PREFIX",
    "LOOPBACK",
    "Parser",
    "Settings",
    "add_flags",
    "add_help_settings",
    "check_user_info",
    "day",
    "hours_of",
    "load",
    "moment",
    "to_environment",
]
