"""The commands of `python -m ferlab`, one per file: `add_parser` registers, `run` does the work."""
