"""What runs the two Flower apps: in this process, on Ray, or on real machines."""
