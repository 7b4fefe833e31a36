"""A disk behind AoE for clients that speak NBD: nbdkit with a plugin of ours (csrc/nbd/)."""
