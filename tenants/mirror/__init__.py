"""Write Clerk's records into the mirror: the only writer of mirrored columns."""
