"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("runstore")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0+unknown"
