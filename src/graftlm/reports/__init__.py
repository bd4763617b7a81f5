"""Documents made from a run directory alone."""
