"""Report how much the mirror may differ from Clerk."""
