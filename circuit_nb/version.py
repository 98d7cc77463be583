"""The version, on its own so that nothing inside has to import the package's face."""

__version__ = "0.1.0"
