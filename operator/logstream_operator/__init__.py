"""The Kubernetes operator: turns a `LogStream` resource into the objects that run the server.

Nothing is here yet; the package exists so that its name, its type marker and its import contract do.
"""
