"""`python -m fkal`: the command line where the script `fkal` is not on the path."""

from fkal.cli.main import app

app(prog_name="python -m fkal")
