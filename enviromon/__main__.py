"""`python -m enviromon`."""

from enviromon.cli import main

main()
