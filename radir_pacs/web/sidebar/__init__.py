"""The sidebar in a viewer: its files, its questions, and what readers say of its answers."""
