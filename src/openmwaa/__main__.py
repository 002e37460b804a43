"""`python -m openmwaa`: the same as the `openmwaa` command."""

from openmwaa.cli.main import main

main()
