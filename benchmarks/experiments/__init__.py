"""How well it finds and reads: models and miners judged beside others, each writing its page of results."""
