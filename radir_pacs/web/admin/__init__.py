"""The administrator's pages, rendered by the server; whatever they do, commands do too, by the same functions."""
