"""Lines and places among them, as values: bytes cut into lines, cursors, the ring of the last lines, filters."""
