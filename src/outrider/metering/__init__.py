"""Who may send requests, and what they use: keys, limits, budgets, the ledger."""
