"""Measures pyserver beside its peers: `python -m bench`.

Everything runs on the loopback of one machine, ours and the peers in turns within one run, so
that a figure is a ratio between programs that had the same machine at the same time.
"""
