"""How a network is trained: recipe, losses, optimizer, batches, checkpoints, training loop."""
