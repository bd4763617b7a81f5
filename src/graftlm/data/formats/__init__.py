"""File formats, one file each; the file name is the name of the format."""
