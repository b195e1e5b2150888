"""The events of an experiment and their durable record."""
