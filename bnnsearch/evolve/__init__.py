"""Float-free training: bit-packed XOR networks, moved by flips, driven by DEAP."""
