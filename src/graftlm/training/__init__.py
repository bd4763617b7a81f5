"""The loop, its batches, its optimiser and its checkpoints. Knows no task, no strategy and no recipe."""
