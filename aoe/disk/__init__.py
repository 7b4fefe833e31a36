"""Backing stores behind one interface, in bytes."""
