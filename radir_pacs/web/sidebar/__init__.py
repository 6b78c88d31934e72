"""The sidebar in a viewer: its files, its queries, and readers' judgements of its answers."""
