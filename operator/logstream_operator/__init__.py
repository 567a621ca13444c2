"""The Kubernetes operator: turns a `LogStream` resource into the objects that run the server.

handlers (kopf) -> queue of keys -> reconcile: read the spec, resolve what it leaves open, render, plan, apply, assess.
"""

from importlib.metadata import version

__version__ = version("logstream")
