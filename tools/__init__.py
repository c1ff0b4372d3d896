"""What tests and benches share, and programs that write sources."""
