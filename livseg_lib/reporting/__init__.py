"""Figures, tables and the report page: takes arrays, tables and a report folder, never models."""
