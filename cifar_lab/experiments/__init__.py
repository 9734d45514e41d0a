"""Studies: several plans with several seeds, and the tables and figures that are made of them."""
