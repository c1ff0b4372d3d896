"""Databases that keep the rows of the archive beside its embedded index."""
