"""What is wrong with a host that serves or uses disks: some modules look, the others judge what was seen."""
