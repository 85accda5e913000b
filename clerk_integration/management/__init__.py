"""Code that the management commands of all apps share: database errors, arguments and progress."""
