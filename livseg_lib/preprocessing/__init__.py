"""Volume -> picture: windows, cleaning, geometry, extraction. One `Recipe` for training and prediction."""
