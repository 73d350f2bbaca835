"""Everything that brings the stack up: bags, replay, demo and the `rap` command."""
