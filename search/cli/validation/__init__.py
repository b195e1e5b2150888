"""The command `celltune validate`: the plan of a search, and what it trains on."""
