"""Real servers for tests: databases of several versions, poolers, and what breaks a network."""
