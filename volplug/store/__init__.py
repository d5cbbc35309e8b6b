"""The ledger's store on disk."""
