"""Between a socket and the application: what uvicorn runs by, with our bounds, TLS and the hand-over."""
