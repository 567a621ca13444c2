"""Reading what is in the files already: where a cursor goes on, the last lines, what a reader behind still lacks."""
