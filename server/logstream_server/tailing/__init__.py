"""Following files: from a look at a file system to lines in a ring, whatever happens to the files meanwhile."""
