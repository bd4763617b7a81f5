"""Which weights move, how fast, one file each."""
