"""`logstream demo`: a lively log to look at."""
