"""What a training stage learns."""
