"""Release tools, in addition to the libraries' own commands. Not part of the wheel."""
