"""What a config may contain: its JSON schema, and a description of each key."""
