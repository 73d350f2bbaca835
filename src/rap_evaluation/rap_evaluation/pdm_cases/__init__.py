"""Cases of the `pdm` command: their schema, their arrays, and what they do not bring along."""
