"""The server side on Flower: the round loop, the compressing grid, server steps, the ServerApp."""
