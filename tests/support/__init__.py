"""Helpers of the test suites: a server under test, a small DIMSE client, peers."""
