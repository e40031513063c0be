"""Compiled bit kernels; they know of bits and words only, not of networks or training."""
