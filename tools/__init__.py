"""What a release needs beside the libraries' own commands. Never part of the wheel."""
