"""The database backend of a project that has no database: DATABASE_URL unset and DEBUG off."""
