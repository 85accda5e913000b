"""The database backend of a project without a database: DATABASE_URL is unset and DEBUG is off."""
