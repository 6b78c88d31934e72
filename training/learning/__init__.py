"""How a network learns: recipe, losses, optimizer, batches, checkpoints, the loop."""
