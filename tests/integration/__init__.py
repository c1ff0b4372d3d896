"""The server among programs of others: what goes in comes out, whoever asks."""
