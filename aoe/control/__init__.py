"""How a running target is asked and changed: messages over a Unix socket, and over ssh."""
