"""How fast, against whom: `tools/bench` runs this and reproduces every figure of the README."""
