"""One file per command: its arguments, and what it prints. The work is done elsewhere in the package."""
