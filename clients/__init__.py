"""The client side on Flower: the compression mod, one file a recipe, the ClientApp."""
