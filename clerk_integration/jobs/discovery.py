"""Importing this module imports the module `tasks` of every installed app.

PROCRASTINATE_IMPORT_PATHS names this module, so that workers find the tasks of all apps, and commands that
need no task import none.
"""

from django.utils.module_loading import autodiscover_modules

autodiscover_modules("tasks")
