"""From sensor messages to what the network sees: decoding, rectification, synchronisation."""
