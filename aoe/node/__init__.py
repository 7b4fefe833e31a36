"""The storage node: what a file wants is compared with what is served, and only the difference is done."""
