"""The server: follows growing log files and sends each new line over WebSocket.

The package is a core of modules without I/O (values in, values out) under shells that hold files, sockets and the
command line. Which module is which stands in pyproject.toml, in the import contracts. Nothing is exported here:
import the module you need.
"""

__version__ = "0.1.0"
