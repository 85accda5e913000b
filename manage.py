#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""

import gc
import os
import sys

NEW_OBJECTS = 200_000
"""New objects after which Python searches them for garbage; by default 700."""


def main() -> None:
    """Run the command named on the command line."""
    # A start makes some 170,000 objects, and they stay. The default searches them 260 times, which takes a
    # quarter of the start.
    gc.set_threshold(NEW_OBJECTS)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if "--traceback" in sys.argv:
            raise
        # The message is for operators: what is wrong with a setting, and what to do.
        sys.exit(str(error))
    finally:
        # While Python ends, it searches all objects for garbage several times, which takes a fifth of a short
        # command. One search is enough: what it leaves is in use.
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    main()
