"""What asks."""
