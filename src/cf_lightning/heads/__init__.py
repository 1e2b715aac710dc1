"""What a network answers with: class vectors, and how features are compared with them."""
