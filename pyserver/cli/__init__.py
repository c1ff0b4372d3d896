"""The command `pyserver`. One module per group of commands; `main` has the table of them."""
