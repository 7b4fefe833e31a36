"""The ATA drive as arithmetic: registers -> operation, outcome -> registers. No I/O."""
