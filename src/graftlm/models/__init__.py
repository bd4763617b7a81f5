"""Base models, artefacts, and everything that touches weights on disk."""
