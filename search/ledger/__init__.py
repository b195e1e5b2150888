"""The events of an experiment, their durable ledger, and the state that they amount to."""
