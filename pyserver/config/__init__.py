"""The configuration: Conquest's files, read into one frozen `Settings`."""
