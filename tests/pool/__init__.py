"""Volumes of a pool."""
