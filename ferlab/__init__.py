"""ferlab: a Keras lab for facial expressions. `python -m ferlab --help` lists its commands."""

__version__ = "0.2.0"
