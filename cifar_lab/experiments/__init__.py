"""Studies: several plans with several seeds each, and their tables and figures."""
