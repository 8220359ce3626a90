"""Label masks made tidy after prediction: components, holes, what lies inside the liver."""
