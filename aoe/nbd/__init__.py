"""A disk behind AoE for whoever speaks NBD: nbdkit with a plugin of ours (csrc/nbd/)."""
