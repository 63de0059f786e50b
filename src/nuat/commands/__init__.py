"""The commands of the command line, one a file; ``nuat.cli`` imports one once it is known."""
