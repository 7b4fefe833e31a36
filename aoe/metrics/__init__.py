"""What a target counts: each number once, with what it means."""
