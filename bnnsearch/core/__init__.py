"""Binary training: torch, torchvision, numpy and pydantic only. What every trial and every production run executes."""
