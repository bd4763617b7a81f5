"""How good predictions are, one file each, with intervals."""
