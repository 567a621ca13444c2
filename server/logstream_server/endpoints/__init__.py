"""What the server answers with at each path: `/ws`, the REST API, the page, health and metrics."""
