"""Fuzzing of what Python parses: the configuration files."""
