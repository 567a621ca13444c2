"""From rings to clients: one channel per view, live clients, those who are behind, and whether all are alive."""
