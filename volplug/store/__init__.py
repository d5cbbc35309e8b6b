"""Where the ledger survives a crash."""
