"""The config of an experiment: schema, validation, and reading from YAML."""
