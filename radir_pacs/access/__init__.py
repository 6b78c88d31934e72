"""Who may see what: so far, references that name a case without naming a patient."""
