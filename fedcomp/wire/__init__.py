"""What travels: packets, and how Flower's messages carry them."""
