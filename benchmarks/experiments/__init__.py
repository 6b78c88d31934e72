"""Quality of retrieval and mining: models and miners compared with others, each writing its result page."""
