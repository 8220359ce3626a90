"""Patient by patient: facts, measures, follow-up and pages."""
