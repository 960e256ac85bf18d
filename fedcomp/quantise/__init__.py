"""The command `fedcomp-quantise`: a trained model to few levels a weight, in a standard stream."""
