"""From a file or an object in memory to splits of rows, by role."""
