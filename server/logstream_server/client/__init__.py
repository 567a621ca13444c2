"""`logstream tail`: clients of servers and of files, and how they show what they get."""
