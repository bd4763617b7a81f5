"""Flat execution: only real tokens travel through a network, one behind the other, without padding."""
