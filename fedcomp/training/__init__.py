"""The mathematics of training on plain torch: loops, losses, metrics, schedules."""
