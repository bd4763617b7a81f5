"""What labels mean, one file each: columns -> features -> head -> predictions -> metrics."""
