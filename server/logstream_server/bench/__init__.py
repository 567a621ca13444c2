"""`logstream bench`: many clients, each line of each checked, and the writer of those lines."""
