"""Plain pages rendered by the server, without a script."""
