"""What makes the image that rented nodes start from: the recipe, the provisioners, and their proof."""
