"""MLflow versions and aliases, and the gate, a pure decision."""
