"""What was acknowledged survives: kills, power cuts, full disks, failing calls, bad peers."""
