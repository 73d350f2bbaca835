"""The closed loop: planners drive routes through traffic that reacts to them, and are judged."""
