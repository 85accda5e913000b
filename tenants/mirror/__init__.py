"""Write Clerk's facts into the mirror: the only writer of mirrored columns."""
