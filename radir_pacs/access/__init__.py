"""Who may see what: tokens and their bearers, and references that name a case without naming a patient."""
