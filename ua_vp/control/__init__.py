"""What can be asked of the control plane: a module per verb. Faces call these; only the ledger lies behind them."""
