"""Contract test suites for extensions of celltune; they need pytest."""
