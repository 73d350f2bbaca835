"""What of bring-up talks to the graph: its composition, the bag player and the recorder."""
