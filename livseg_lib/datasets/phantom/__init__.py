"""The project's own data: abdominal CT made from formulas, in LiTS's format."""
