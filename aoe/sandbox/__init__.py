"""Other people's programs on other people's files: they get what they are named, and nothing else."""
