"""What a user writes: the config file."""
