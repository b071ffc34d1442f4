"""oihedge: hedge spot holdings by what perpetual futures' open interest foretells."""

__version__ = "0.1.0"
