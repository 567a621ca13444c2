"""What goes over the wire: WebSocket frames, messages, and a view's lines made ready for all of its clients."""
