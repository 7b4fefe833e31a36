"""How fast, against whom: `tools/bench` runs this and reproduces every figure of bench/README.md."""
