"""What is served against what the trainer's own libraries answer, number by number."""
