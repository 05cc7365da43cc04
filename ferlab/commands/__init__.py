"""The commands of `python -m ferlab`, one a file: `add_parser` registers, `run` does the work."""
