"""Who comes in: tokens, sessions, origins, seats, and the server's own certificate."""
