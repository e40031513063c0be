"""The 1-bit model: its file, its conversion from torch, and a runtime that needs no torch."""
