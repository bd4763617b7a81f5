"""Doors for scripts that were written for another library."""
